# A medium that is downloaded more often than built: small.
{
  imports = [ ../../modules/offline-install ];
  site.image.compression = "small";
}
