# The medium carries the installed system and installs it without a network.
{
  imports = [ ../../modules/offline-install ];
}
