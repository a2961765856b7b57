//! The configuration: a TOML file, overridden by the environment, overridden by the command line (DESIGN §6).
//!
//! What may be set is one table, `table.rs`; how values are read is `kind.rs`; what contradicts what is
//! `contradictions.rs`. The whole is checked at once, and everything that is wrong is told at once.

mod contradictions;
#[cfg(test)]
mod document;
mod keys;
mod kind;
mod problem;
mod read;
mod show;
mod table;
pub mod units;
mod written;

pub use keys::{ALGORITHMS, KeyConfig, KeyFile};
pub use problem::{Origin, Problem, Problems};
pub use read::{Override, Sources};

pub(crate) use table::nearest;

pub(crate) use keys::{KEYS_MOST, KeyDraft, KeyList};

use crate::store::Repair;
use crate::tls::TlsConfig;
use runcast_core::config::Config;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// The keys that a running daemon takes over on SIGHUP.
pub const RELOADED: &[&str] =
    &["auth.jwks_file", "auth.keys", "server.tls_cert", "server.tls_key", "log.level"];

/// The effective configuration. Every value is in its range, and none contradicts another.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the core must know.
    pub core: Config,
    /// Where to listen.
    pub listen: SocketAddr,
    /// The data directory. It need not exist.
    pub data: PathBuf,
    /// How the store finds its free pages after a crash.
    pub repair: Repair,
    /// Where the certificate is, if the port speaks TLS.
    pub tls: TlsConfig,
    /// Where the keys are; [`Keys`](crate::auth::Keys) reads them.
    pub auth: AuthConfig,
    /// The file with the secret by which the webhook's calls are signed.
    pub webhook_secret_file: Option<PathBuf>,
    /// What is logged.
    pub log: Log,
    /// Whether this is for development: loopback only, and a secret of its own in the data directory.
    pub dev: bool,
    /// Where each value comes from that is not a default, by its key.
    origins: BTreeMap<String, Origin>,
    /// What it was read from.
    sources: Sources,
}

/// Where the keys are that tokens may be signed with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthConfig {
    /// A JWKS file.
    pub jwks_file: Option<PathBuf>,
    /// Keys in files of their own.
    pub keys: Vec<KeyConfig>,
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// What is worth a line.
    pub level: Level,
    /// How a line looks.
    pub format: Format,
}

/// The least that is worth a line of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// Only what must be seen to.
    Error,
    /// Also what may have to be.
    Warn,
    /// Also what happens.
    #[default]
    Info,
    /// Also why.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    /// As they are written.
    pub const WORDS: &'static [(&'static str, Self)] = &[
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal, else JSON.
    #[default]
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Format {
    /// As they are written.
    pub const WORDS: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("text", Self::Text), ("json", Self::Json)];
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            core: Config::default(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8787)),
            data: PathBuf::from("./runcast-data"),
            repair: Repair::default(),
            tls: TlsConfig::default(),
            auth: AuthConfig::default(),
            webhook_secret_file: None,
            log: Log::default(),
            dev: false,
            origins: BTreeMap::new(),
            sources: Sources::default(),
        }
    }
}

impl Settings {
    /// Reads all sources and judges the whole.
    ///
    /// # Errors
    /// Everything that is wrong, each with its place and what to do.
    pub fn load(sources: &Sources) -> Result<Self, Problems> {
        let settings = read::read(sources)?;
        contradictions::find(&settings).or(settings)
    }

    /// Reads the same sources once more. The environment is that of the start.
    ///
    /// # Errors
    /// Everything that is wrong, as [`load`](Self::load) tells it.
    pub fn again(&self) -> Result<Self, Problems> {
        Self::load(&self.sources)
    }

    /// The keys that are not the same in `newer`, and of which a running daemon takes over nothing.
    pub fn fixed_differences(&self, newer: &Self) -> Vec<&'static str> {
        let is_fixed = |key: &str| !RELOADED.contains(&key);
        let differs = |key: &&&dyn table::Key<Self>| key.show(self) != key.show(newer);
        let keys = table::SETTINGS.iter().filter(|key| is_fixed(key.name())).filter(differs);
        let mut names: Vec<&'static str> = keys.map(|key| key.name()).collect();
        names.extend((self.core.agents != newer.core.agents).then_some("agents"));
        names.extend((self.core.topics != newer.core.topics).then_some("topics"));
        names
    }

    /// The store's file in the data directory.
    pub fn store_file(&self) -> PathBuf {
        self.data.join("store.redb")
    }

    /// The directory in which backups are written.
    pub fn backups(&self) -> PathBuf {
        self.data.join("backups")
    }

    /// Where the value of a key comes from, like that of `runs.timeout`.
    pub fn origin(&self, key: &str) -> &Origin {
        self.origins.get(key).unwrap_or(&Origin::Default)
    }

    /// The whole configuration as TOML that may be used again, each value with its origin and meaning.
    pub fn print(&self) -> String {
        show::print(self)
    }
}

#[cfg(test)]
mod tests;
