# Only on lighthouse's live medium: what a visitor at its console is told.
{
  motd = "This is the live medium. drydock-install DISK puts lighthouse on an empty disk.";
}
