# lighthouse: one page over HTTP, the same from the live medium and once installed.
{
  version = "1.0";
  services.http = "httpd -f -p 80 -h ${
    builtins.path {
      path = ./www;
      name = "lighthouse-www";
    }
  }";
}
