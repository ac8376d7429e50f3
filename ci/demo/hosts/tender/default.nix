# tender: a rescue medium that also answers over HTTP, so that a machine without a screen can be looked into.
{
  version = "1.0";
  services.report = "httpd -f -p 8080 -h ${
    builtins.path {
      path = ./www;
      name = "tender-www";
    }
  }";
}
