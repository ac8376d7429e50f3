# Writes the configuration files of the two boot loaders, each in its own syntax.
{ toolbox }:
{
  title,
  kernel,
  initrd,
  params,
}:
{
  # Debian's monolithic GRUB looks for /.disk/info to find its medium and reads /boot/grub/grub.cfg there.
  grub = ''
    set timeout=1
    menuentry "${title}" {
      linux ${kernel} ${params}
      initrd ${initrd}
    }
  '';
  syslinux = ''
    SERIAL 0 115200
    DEFAULT drydock
    LABEL drydock
      LINUX ${kernel}
      INITRD ${initrd}
      APPEND ${params}
  '';
  efi = "${toolbox.debian.${toolbox.platform.grub.package}}";
}
