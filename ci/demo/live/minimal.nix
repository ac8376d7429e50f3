# Base profile of a live medium: what every live medium carries.
{
  motd = "Live medium: nothing here outlives a reboot.";
}
