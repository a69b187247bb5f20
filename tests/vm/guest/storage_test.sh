#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The server's storage tests on disks of every sort: files on ext4, RAM disk, loop device, SCSI disk with 4096-byte
# sectors that can discard, and a partition on it. Run by tests/vm/run; the arguments are the test programs.
set -euo pipefail
source "$VM_LIB"

scsi_disk() { # the disk of scsi_debug, once it is there
    ls /sys/bus/pseudo/drivers/scsi_debug/adapter0/host*/target*/*/block 2> /dev/null
}

run_on() { # DEVICE: the tests of block devices there
    local program
    for program in "${programs[@]}"; do
        RNBD_TEST_BLOCK_DEVICE=$1 "$program" --gtest_filter='*Device*'
    done
}

claim_is_refused() { # DEVICE: whether it is taken for busy
    local program
    for program in "${programs[@]}"; do
        # This test wants the disk for itself. Programs without it run nothing and succeed.
        RNBD_TEST_BLOCK_DEVICE=$1 "$program" --gtest_filter=BackendOnBlockDevice.ClaimsOnce > /tmp/claim.log && continue
        grep -q 'otherwise in use here.*EBUSY' /tmp/claim.log && return
    done
    return 1
}

programs=("$@")
((${#programs[@]} > 0)) || vm_fail "which test programs?"
vm_load_modules brd,rd_nr=1,rd_size=131072 loop sd_mod scsi_debug,sector_size=4096,dev_size_mb=64,delay=0,lbpu=1,lbpws=1
vm_wait_until 10 scsi_disk > /dev/null
scsi=/dev/$(scsi_disk)
vm_wait_until 10 test -b "$scsi"

vm_step "files on ext4"
mkfs.ext4 -q /dev/ram0
mount /dev/ram0 /var/tmp # where the tests have their files; the guest's own is no disk
for program in "${programs[@]}"; do "$program" --gtest_filter='-*Device*'; done

vm_step "a mounted disk is nobody else's"
claim_is_refused /dev/ram0 || vm_fail "a mounted disk could be claimed"
umount /var/tmp
! claim_is_refused /dev/ram0 || vm_fail "a disk could not be claimed"

vm_step "RAM disk"
run_on /dev/ram0

for sector in 512 4096; do
    vm_step "loop device, sectors of $sector bytes"
    truncate -s 64M "/dev/shm/image.$sector"
    loop=$(losetup -f --show -b "$sector" "/dev/shm/image.$sector")
    run_on "$loop"
    losetup -d "$loop"
done

vm_step "SCSI disk, sectors of 4096 bytes"
run_on "$scsi"

vm_step "partition"
echo 'start=2048, size=12288' | sfdisk -q "$scsi" # sectors of 4096 bytes; 48 MiB
vm_wait_until 10 test -b "${scsi}1"
run_on "${scsi}1"
