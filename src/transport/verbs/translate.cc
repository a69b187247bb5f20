// SPDX-License-Identifier: Apache-2.0
// Work and completions (translate.h).
#include "transport/verbs/translate.h"

#include <arpa/inet.h>

#include "common/assert.h"
#include "transport/verbs/device.h"

namespace rnbd::transport::verbs {

namespace {

std::uint64_t wire_address(const void* address) {
  return reinterpret_cast<std::uintptr_t>(address);
}

unsigned flags_of(const WorkRequest& work) {
  return work.signalled ? static_cast<unsigned>(IBV_SEND_SIGNALED) : 0u;
}

CompletionStatus to_status(ibv_wc_status status) {
  switch (status) {
    case IBV_WC_SUCCESS:
      return CompletionStatus::Success;
    case IBV_WC_WR_FLUSH_ERR:
      return CompletionStatus::Flushed;
    case IBV_WC_REM_INV_REQ_ERR:
    case IBV_WC_REM_ACCESS_ERR:
    case IBV_WC_REM_OP_ERR:
    case IBV_WC_REM_INV_RD_REQ_ERR:
    case IBV_WC_REM_ABORT_ERR:
      return CompletionStatus::RemoteRefused;
    case IBV_WC_LOC_LEN_ERR:
    case IBV_WC_LOC_QP_OP_ERR:
    case IBV_WC_LOC_EEC_OP_ERR:
    case IBV_WC_LOC_PROT_ERR:
    case IBV_WC_LOC_ACCESS_ERR:
    case IBV_WC_LOC_RDD_VIOL_ERR:
    case IBV_WC_MW_BIND_ERR:
      return CompletionStatus::LocalError;
    case IBV_WC_RETRY_EXC_ERR:
    case IBV_WC_RNR_RETRY_EXC_ERR:
    case IBV_WC_RESP_TIMEOUT_ERR:
      return CompletionStatus::PeerNotResponding;
    case IBV_WC_BAD_RESP_ERR:
    case IBV_WC_INV_EECN_ERR:
    case IBV_WC_INV_EEC_STATE_ERR:
    case IBV_WC_FATAL_ERR:
    case IBV_WC_GENERAL_ERR:
    case IBV_WC_TM_ERR:
    case IBV_WC_TM_RNDV_INCOMPLETE:
      return CompletionStatus::Other;
  }
  return CompletionStatus::Other;
}

CompletionKind to_kind(const ibv_wc& completion) {
  switch (completion.opcode) {
    case IBV_WC_RECV:
      if ((completion.wc_flags & IBV_WC_WITH_IMM) != 0) return CompletionKind::ReceiveImmediate;
      if ((completion.wc_flags & IBV_WC_WITH_INV) != 0) return CompletionKind::ReceiveInvalidate;
      return CompletionKind::Receive;
    case IBV_WC_RECV_RDMA_WITH_IMM:
      return CompletionKind::WriteImmediate;
    case IBV_WC_SEND:
    case IBV_WC_RDMA_WRITE:
    case IBV_WC_BIND_MW:
      return CompletionKind::Done;
    case IBV_WC_RDMA_READ:
    case IBV_WC_COMP_SWAP:
    case IBV_WC_FETCH_ADD:
    case IBV_WC_ATOMIC_WRITE:
    case IBV_WC_LOCAL_INV:
    case IBV_WC_TSO:
    case IBV_WC_TM_ADD:
    case IBV_WC_TM_DEL:
    case IBV_WC_TM_SYNC:
    case IBV_WC_TM_RECV:
    case IBV_WC_TM_NO_TAG:
    case IBV_WC_DRIVER1:
    case IBV_WC_DRIVER2:
    case IBV_WC_DRIVER3:
      break;  // Never posted by us.
  }
  return CompletionKind::Done;
}

ibv_mw_bind_info bind_info_of(const WorkRequest& work) {
  RNBD_ASSERT(work.region != nullptr);
  // The region is named even when nothing of it is: librxe looks into it in any case.
  const auto& region = static_cast<const VerbsRegion&>(*work.region);
  const void* address = work.source.length != 0 ? work.source.address : region.memory().data();
  return {.mr = region.raw(),
          .addr = wire_address(address),
          .length = work.source.length,
          .mw_access_flags = IBV_ACCESS_REMOTE_WRITE};
}

/// Its last byte is ours to choose.
std::uint32_t next_key(std::uint32_t key) { return (key & ~0xffU) | ((key + 1) & 0xffU); }

}  // namespace

ibv_send_wr to_work_request(const WorkRequest& work, ibv_sge& sge) {
  ibv_send_wr result{};
  result.wr_id = work.id;
  result.send_flags = flags_of(work);
  if (work.source.length != 0) {
    sge = {.addr = wire_address(work.source.address),
           .length = work.source.length,
           .lkey = work.source.key};
    result.sg_list = &sge;
    result.num_sge = 1;
  }
  switch (work.kind) {
    case WorkKind::Write:
      result.opcode = IBV_WR_RDMA_WRITE;
      result.wr.rdma = {.remote_addr = work.remote.address, .rkey = work.remote.key};
      break;
    case WorkKind::WriteImmediate:
      result.opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
      result.wr.rdma = {.remote_addr = work.remote.address, .rkey = work.remote.key};
      result.imm_data = htonl(work.immediate);
      break;
    case WorkKind::Send:
      result.opcode = IBV_WR_SEND;
      break;
    case WorkKind::SendImmediate:
      result.opcode = IBV_WR_SEND_WITH_IMM;
      result.imm_data = htonl(work.immediate);
      break;
    case WorkKind::SendInvalidate:
      result.opcode = IBV_WR_SEND_WITH_INV;
      result.invalidate_rkey = work.remote.key;
      break;
    case WorkKind::BindWindow:
      RNBD_ASSERT(work.kind != WorkKind::BindWindow);
  }
  return result;
}

ibv_mw_bind to_bind(const WorkRequest& work) {
  ibv_mw_bind result{};
  result.wr_id = work.id;
  result.send_flags = flags_of(work);
  result.bind_info = bind_info_of(work);
  return result;
}

ibv_send_wr to_bind_request(const WorkRequest& work) {
  RNBD_ASSERT(work.window != nullptr);
  ibv_mw* const window = static_cast<const VerbsWindow&>(*work.window).raw();
  ibv_send_wr result{};
  result.wr_id = work.id;
  result.send_flags = flags_of(work);
  result.opcode = IBV_WR_BIND_MW;
  result.bind_mw = {.mw = window, .rkey = next_key(window->rkey), .bind_info = bind_info_of(work)};
  return result;
}

ibv_recv_wr to_receive_request(const ReceiveRequest& receive, ibv_sge& sge) {
  ibv_recv_wr result{};
  result.wr_id = receive.id;
  if (receive.length != 0) {
    sge = {.addr = wire_address(receive.address), .length = receive.length, .lkey = receive.key};
    result.sg_list = &sge;
    result.num_sge = 1;
  }
  return result;
}

Completion to_completion(const ibv_wc& completion) {
  Completion result{.status = to_status(completion.status), .id = completion.wr_id};
  if (result.status != CompletionStatus::Success) return result;  // the rest is not set then
  result.kind = to_kind(completion);
  switch (result.kind) {
    case CompletionKind::Done:
      break;
    case CompletionKind::ReceiveImmediate:
    case CompletionKind::WriteImmediate:
      result.length = completion.byte_len;
      result.immediate = ntohl(completion.imm_data);
      break;
    case CompletionKind::ReceiveInvalidate:
      result.length = completion.byte_len;
      result.invalidated_key = completion.invalidated_rkey;
      break;
    case CompletionKind::Receive:
      result.length = completion.byte_len;
      break;
  }
  return result;
}

}  // namespace rnbd::transport::verbs
