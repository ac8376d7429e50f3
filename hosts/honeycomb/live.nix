# The recovery medium of the board.
{
  imports = [
    ../../modules/offline-install
    ../../modules/rescue-tools.nix
  ];
}
