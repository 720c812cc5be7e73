#!/bin/sh
# The first process of the guest: makes its kernel usable, runs what it is told, says how that ended and
# switches off. GUEST_HOME, a directory of the host, comes by the kernel's command line.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin TMPDIR=/run
mount -t proc none /proc
mount -t sysfs none /sys
mount -t tmpfs none /run
mkdir /run/home
mount -t hostfs -o "$GUEST_HOME" none /run/home
# The kernel asks for a module when something of it is used first; of IPv6 it does so too late for
# whoever looks for its sysctls.
echo "$GUEST_HOME/modprobe" >/proc/sys/kernel/modprobe
"$GUEST_HOME/modprobe" ipv6
ip link set lo up
sh "$GUEST_HOME/command" 2>&1
echo $? >/run/home/status
echo o >/proc/sysrq-trigger
# Switching off happens behind our back, and the kernel panics when its first process ends.
sleep 60
