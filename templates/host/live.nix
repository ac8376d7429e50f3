# Only on the live medium: it installs the host without a network.
{
  imports = [ ../../modules/offline-install ];
}
