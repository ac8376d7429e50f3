# beacon: the daytime service of RFC 867, one line a connection.
{
  version = "1.0";
  services.daytime = "nc -ll -p 13 -e date -u";
}
