# The shipped ISO, unchanged: every firmware x every medium.
for firmware in given["firmwares"]:
    for medium in given["media"]:
        with subtest(f"{firmware} from {medium}"):
            live = boot(f"{firmware}-{medium}", firmware, medium_arguments(medium), network=True)
            settled(live)
            if given["serial"]:
                live.wait_for_unit(f"serial-getty@{given['serial']}.service")
            uefi = live.execute("test -d /sys/firmware/efi")[0] == 0
            assert uefi == (firmware == "uefi"), f"booted by the wrong firmware, not {firmware}"
            check(live, "live")
            photograph(live)
            live.shutdown()
