//! What may change while the daemon serves: the keys of tokens, the certificate, and how much is logged.
//!
//! A thread of its own reads, so that the loop never waits for a file. It looks every two seconds whether a
//! file has changed, and on SIGHUP it reads the configuration and all of them. What is wrong with the new
//! state is told, and the old one stays; that is tried again at each look, since not all that is wrong is in
//! the files.

use crate::auth::{Keys, Secret};
use crate::config::{KeyFile, Level, Problem, Problems, Settings};
use crate::metrics::CertificateMeter;
use crate::tls;
use rustls::ServerConfig;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};
use std::{fs, io, thread};

/// How often it is looked whether a file has changed.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The present state of something that may be replaced as a whole.
pub struct Current<T>(Arc<RwLock<Arc<T>>>);

impl<T> Current<T> {
    /// It begins with this.
    pub fn new(first: T) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(first))))
    }

    /// What it is now.
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on it is this.
    pub fn put(&self, next: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
    }
}

impl<T> Clone for Current<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Current<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Current").finish_non_exhaustive()
    }
}

/// What is replaced when its files, or the configuration, have changed.
pub struct Live {
    /// The keys that tokens may be signed with.
    pub keys: Current<Keys>,
    /// The certificate, if the port speaks TLS.
    pub tls: Option<Current<ServerConfig>>,
    /// Is told until when that is good.
    pub certificate: CertificateMeter,
    /// The secret of `--dev`, which is no file's.
    pub dev_secret: Option<Secret>,
    /// Takes another level of the log.
    pub log: Box<dyn Fn(Level) + Send>,
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").finish_non_exhaustive()
    }
}

/// Has everything read again when it is told to.
#[derive(Clone, Debug)]
pub struct Reloader(Sender<()>);

impl Reloader {
    /// Begins to look. The thread ends with the last of these.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(settings: Settings, live: Live) -> io::Result<Self> {
        let (tell, told) = channel();
        let stamps = stamps(&settings);
        let mut reader = Reader { settings, live, stamps, keys_wrong: None, certificate_wrong: None };
        thread::Builder::new().name("reload".into()).spawn(move || reader.serve(&told))?;
        Ok(Self(tell))
    }

    /// SIGHUP has come.
    pub fn again(&self) {
        if self.0.send(()).is_err() {
            tracing::error!("nothing can be read again: its thread is gone; restart the daemon");
        }
    }
}

/// How a file is known to be another: when it was changed, its length, and which it is.
type Stamp = Option<(SystemTime, u64, u64)>;

struct Reader {
    settings: Settings,
    live: Live,
    stamps: Vec<(PathBuf, Stamp)>,
    /// Why the keys of before have stayed, as it was told; none when they are those of the files,
    keys_wrong: Option<Problems>,
    /// and the certificate.
    certificate_wrong: Option<Problem>,
}

impl Reader {
    fn serve(&mut self, told: &Receiver<()>) {
        loop {
            match told.recv_timeout(LOOK_EVERY) {
                Ok(()) => self.reconfigure(),
                Err(RecvTimeoutError::Timeout) => self.look(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Reads all files if one has changed, else what could not be read the last time.
    fn look(&mut self) {
        let stamps = stamps(&self.settings);
        if stamps != self.stamps {
            self.stamps = stamps;
            return self.read();
        }
        if self.certificate_wrong.is_some() {
            self.read_certificate();
        }
        if self.keys_wrong.is_some() {
            self.read_keys();
        }
    }

    /// Reads the configuration, and then all files.
    fn reconfigure(&mut self) {
        let settings = match self.settings.again() {
            Ok(settings) => settings,
            Err(problems) => {
                for problem in problems.0 {
                    tracing::error!(%problem, "the configuration is not taken over");
                }
                return;
            }
        };
        for key in self.settings.fixed_differences(&settings) {
            tracing::warn!(key, "this has changed, and needs a restart");
        }
        // The files of now, with all that needs a restart as it was.
        (self.settings.auth, self.settings.tls) = (settings.auth, settings.tls);
        self.settings.log.level = settings.log.level;
        (self.live.log)(settings.log.level);
        self.stamps = stamps(&self.settings);
        self.read();
    }

    fn read(&mut self) {
        (self.certificate_wrong, self.keys_wrong) = (None, None);
        self.read_certificate();
        self.read_keys();
    }

    fn read_keys(&mut self) {
        match Keys::from_config(&self.settings.auth, self.settings.dev) {
            Ok(keys) => {
                let keys = match &self.live.dev_secret {
                    Some(secret) => keys.with_dev(secret),
                    None => keys,
                };
                let count = keys.len();
                self.live.keys.put(keys);
                self.keys_wrong = None;
                // Said when it is so.
                tracing::info!(keys = count, "the keys were read again");
            }
            Err(problems) => {
                if self.keys_wrong.as_ref() != Some(&problems) {
                    for problem in &problems.0 {
                        tracing::error!(%problem, "the keys of before stay");
                    }
                }
                self.keys_wrong = Some(problems);
            }
        }
    }

    /// Whoever is connected stays with the certificate of before.
    fn read_certificate(&mut self) {
        match (tls::load(&self.settings), &self.live.tls) {
            (Ok(None), None) => {}
            (Ok(Some(config)), Some(tls)) => {
                tls.put(config);
                tls::expires(&self.settings)
                    .into_iter()
                    .for_each(|until| self.live.certificate.expires(until));
                self.certificate_wrong = None;
                tracing::info!("the certificate was read again");
                tls::expires_soon(&self.settings).iter().for_each(|problem| tracing::warn!("{problem}"));
            }
            (Ok(_), _) => {
                self.certificate_wrong = None;
                tracing::warn!(key = "server.tls_cert", "this has changed, and needs a restart");
            }
            (Err(problem), _) => {
                if self.certificate_wrong.as_ref() != Some(&problem) {
                    tracing::error!(%problem, "the certificate of before stays");
                }
                self.certificate_wrong = Some(problem);
            }
        }
    }
}

fn stamps(settings: &Settings) -> Vec<(PathBuf, Stamp)> {
    let keys = settings.auth.keys.iter().map(|key| match &key.file {
        KeyFile::Secret(path) | KeyFile::Public(path) => path,
    });
    let files = keys.chain(&settings.auth.jwks_file).chain(&settings.tls.cert).chain(&settings.tls.key);
    files.map(|path| (path.clone(), stamp(path))).collect()
}

fn stamp(path: &Path) -> Stamp {
    let found = fs::metadata(path).ok()?;
    Some((found.modified().ok()?, found.len(), found.ino()))
}
