# @host@: @description@
{
  version = "1.0";
  services = { };
}
