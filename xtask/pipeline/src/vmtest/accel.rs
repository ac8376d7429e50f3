//! Chooses the accelerator of a guest by what was asked for and by whether KVM works.

use anyhow::Result;

use super::{
    kvm::Kvm,
    machine::{Accel, Cpu},
};
use crate::diagnostic::lacking;

/// What a person asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// KVM where it works, else TCG.
    Auto,
    /// KVM, or nothing.
    Kvm,
    /// Emulation by QEMU, even where KVM works.
    Tcg,
}

/// An accelerator and why it is this one, for the output and for every report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    pub accel: Accel,
    pub why: String,
}

impl std::fmt::Display for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.accel {
            Accel::Kvm => write!(f, "KVM ({})", self.why),
            Accel::Tcg => write!(f, "TCG, software emulation, about ten times slower than KVM ({})", self.why),
        }
    }
}

/// Decides for guests of `cpu`. A demand for KVM that cannot be met is an error with exit code 3. `probe` is
/// asked only where its answer matters.
pub fn choose(wish: Wish, cpu: Cpu, here: &str, probe: impl FnOnce() -> Kvm) -> Result<Choice> {
    let foreign = cpu.as_str() != here;
    let choice = match wish {
        Wish::Tcg => Choice { accel: Accel::Tcg, why: "asked for with --accel tcg".into() },
        Wish::Kvm if foreign => {
            return Err(lacking(format!(
                "--accel kvm: KVM on this {here} machine cannot run an {} guest\n  try: --accel auto, which emulates it",
                cpu.as_str()
            )));
        }
        Wish::Auto if foreign => {
            Choice { accel: Accel::Tcg, why: format!("the guest is {} and this machine is {here}", cpu.as_str()) }
        }
        Wish::Kvm | Wish::Auto => match probe() {
            Kvm::Works => Choice { accel: Accel::Kvm, why: Kvm::Works.to_string() },
            verdict if wish == Wish::Kvm => {
                let remedy = verdict.remedy().unwrap_or_default();
                return Err(lacking(format!("--accel kvm: {verdict}\n  try: {remedy}\n  or: --accel auto")));
            }
            verdict => Choice { accel: Accel::Tcg, why: verdict.to_string() },
        },
    };
    Ok(choice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::exit_code;

    #[test]
    fn a_demand_is_met_or_refused_and_never_bent() {
        let broken = || Kvm::Broken { how: "it hung".into() };
        type Row = (Wish, Cpu, fn() -> Kvm, Option<Accel>);
        let rows: [Row; 7] = [
            (Wish::Auto, Cpu::X86_64, || Kvm::Works, Some(Accel::Kvm)),
            (Wish::Auto, Cpu::X86_64, broken, Some(Accel::Tcg)),
            (Wish::Auto, Cpu::Aarch64, || panic!("must not be asked"), Some(Accel::Tcg)),
            (Wish::Kvm, Cpu::X86_64, || Kvm::Works, Some(Accel::Kvm)),
            (Wish::Kvm, Cpu::X86_64, broken, None),
            (Wish::Kvm, Cpu::Aarch64, || Kvm::Works, None),
            (Wish::Tcg, Cpu::X86_64, || panic!("must not be asked"), Some(Accel::Tcg)),
        ];
        for (wish, cpu, probe, expected) in rows {
            match choose(wish, cpu, "x86_64", probe) {
                Ok(choice) => assert_eq!(Some(choice.accel), expected, "{wish:?} {cpu:?}"),
                Err(error) => {
                    assert_eq!((expected, exit_code(&error)), (None, 3), "{wish:?} {cpu:?}: {error}");
                }
            }
        }
        let text = choose(Wish::Auto, Cpu::X86_64, "x86_64", broken).unwrap().to_string();
        assert!(text.contains("TCG") && text.contains("it hung"), "{text}");
    }
}
