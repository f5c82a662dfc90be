//! The instruction sets that the kernels are compiled for. All give the same bits.

use std::sync::OnceLock;

static BEST: OnceLock<InstructionSet> = OnceLock::new();

/// An instruction set for which the kernels are compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InstructionSet {
    /// Whatever the compiler's baseline is.
    Portable,
    /// 128-bit registers of ARM.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// 256-bit registers, with fused multiply-add and conversion of halves.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 512-bit registers.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl InstructionSet {
    /// Every set that the kernels are compiled for on this architecture, narrowest first.
    pub const ALL: &[Self] = &[
        Self::Portable,
        #[cfg(target_arch = "aarch64")]
        Self::Neon,
        #[cfg(target_arch = "x86_64")]
        Self::Avx2,
        #[cfg(target_arch = "x86_64")]
        Self::Avx512,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            #[cfg(target_arch = "aarch64")]
            Self::Neon => "neon",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "avx512",
        }
    }

    /// The set of a name, if the kernels are compiled for it on this architecture.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|set| set.name() == name)
    }

    fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            // Part of every 64-bit ARM processor that Rust's baseline knows.
            #[cfg(target_arch = "aarch64")]
            Self::Neon => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                use std::arch::is_x86_feature_detected as has;
                has!("avx2") && has!("fma") && has!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                use std::arch::is_x86_feature_detected as has;
                let has_wide = has!("avx512f") && has!("avx512bw") && has!("avx512vl");
                has_wide && has!("avx512dq") && Self::Avx2.is_available()
            }
        }
    }

    /// The instruction sets of this processor, narrowest first.
    pub fn available() -> Vec<Self> {
        let sets = Self::ALL.iter().copied();
        sets.filter(|set| set.is_available()).collect()
    }

    /// Uses this one from now on, where nothing was computed yet; answers whether it will be used.
    pub fn prefer(self) -> bool {
        self.is_available() && *BEST.get_or_init(|| self) == self
    }

    /// The widest one, found once, unless another was preferred.
    pub fn best() -> Self {
        *BEST.get_or_init(|| Self::available().last().copied().unwrap_or(Self::Portable))
    }
}
