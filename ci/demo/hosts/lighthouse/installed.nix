# Only on the installed lighthouse: syslog to memory, since the machine stays up.
{
  services.syslog = "syslogd -n -C64";
}
