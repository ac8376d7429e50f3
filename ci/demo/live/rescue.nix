# Base profile of a rescue medium: drivers for hardware one did not choose, and the kernel's log on the console.
{
  motd = "Rescue medium: lsblk-like facts are in /proc/partitions, the kernel's log in dmesg.";
  kernelParams = [ "loglevel=6" ];
}
