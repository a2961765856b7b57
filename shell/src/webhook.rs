//! Calls of the webhook (PROTOCOL §7): signed, each on a thread of its own, so that the loop never waits for
//! somebody else's server. The core decides what is called and when, and lets only a few be under way at
//! once.

use crate::auth::{Secret, read_secret};
use crate::config::{Origin, Problem, Settings};
use crate::pump::Call;
use hmac::{Hmac, Mac};
use runcast_core::ids::RunId;
use sha2::Sha256;
use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tungstenite::http::Uri;

/// Time for one call, from the name's look-up to the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The header with the time of a call and what proves who made it.
const SIGNATURE: &str = "runcast-signature";

/// The webhook, and what came of its calls.
pub struct Webhook {
    agent: ureq::Agent,
    url: String,
    secret: Arc<Secret>,
    tell: Sender<(RunId, bool)>,
    told: Receiver<(RunId, bool)>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl Webhook {
    /// The webhook that is configured, if one is. `wake` is called when a call is over.
    ///
    /// # Errors
    /// There is no secret, or its file cannot be read.
    pub fn from_settings(
        settings: &Settings,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Result<Option<Self>, Problem> {
        let Some((url, secret)) = configured(settings)? else { return Ok(None) };
        Ok(Some(Self::new(url, secret, wake)))
    }

    /// A webhook at this URL, signed with this secret.
    pub fn new(url: &str, secret: Secret, wake: impl Fn() + Send + Sync + 'static) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .max_redirects(0)
            .http_status_as_error(false)
            .user_agent(concat!("runcast/", env!("CARGO_PKG_VERSION")));
        let (tell, told) = channel();
        let (agent, secret, wake) = (config.build().into(), Arc::new(secret), Arc::new(wake));
        Self { agent, url: url.to_owned(), secret, tell, told, wake }
    }

    /// Makes a call; what came of it is found in [`over`](Self::over).
    pub fn call(&self, call: Call) {
        let (agent, url) = (self.agent.clone(), self.url.clone());
        let (secret, tell, wake) = (self.secret.clone(), self.tell.clone(), self.wake.clone());
        let run = call.run.clone();
        let work = move || {
            let is_taken = post(&agent, &url, &secret, &call);
            // Nobody listens any more when the daemon ends.
            tell.send((call.run, is_taken)).unwrap_or_default();
            wake();
        };
        if let Err(error) = thread::Builder::new().name("webhook".into()).spawn(work) {
            tracing::warn!(%error, "no thread for the webhook");
            self.tell.send((run, false)).unwrap_or_default();
            (self.wake)();
        }
    }

    /// The next call that is over, and whether it was taken.
    pub fn over(&self) -> Option<(RunId, bool)> {
        self.told.try_recv().ok()
    }
}

/// The URL and the secret that are configured, if they are.
///
/// # Errors
/// There is no secret, or its file cannot be read.
pub fn configured(settings: &Settings) -> Result<Option<(&str, Secret)>, Problem> {
    let Some(url) = settings.core.delivery.webhook.as_deref() else { return Ok(None) };
    let origin = |key| settings.origin(key).clone();
    if !can_be_called(url) {
        let reason = format!("delivery.webhook: expected a URL with http or https and a host, found {url:?}");
        return Err(Problem::new(origin("delivery.webhook"), reason, "give the whole URL"));
    }
    let Some(path) = &settings.webhook_secret_file else {
        let reason =
            "delivery.webhook without delivery.webhook_secret_file: who is called could not know by whom";
        let fix = "make a secret with `openssl rand -hex 32`, and give its file";
        return Err(Problem::new(origin("delivery.webhook"), reason, fix));
    };
    let origin: Origin = origin("delivery.webhook_secret_file");
    Ok(Some((url, read_secret(path, &origin)?)))
}

/// Whether it is a URL with a host. Of a port that is none the library would take the usual one.
fn can_be_called(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    let is_http = matches!(uri.scheme_str(), Some("https" | "http"));
    let (host, port) = (uri.host().unwrap_or_default(), uri.port_u16());
    let has_right_port = port.is_some() || uri.authority().is_some_and(|it| it.as_str().ends_with(host));
    is_http && !host.is_empty() && has_right_port
}

/// Posts the body; whether any 2xx came back.
fn post(agent: &ureq::Agent, url: &str, secret: &Secret, call: &Call) -> bool {
    let ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let request = agent.post(url).header("content-type", "application/json");
    let answer = request.header(SIGNATURE, sign(secret, ms, &call.body)).send(&call.body);
    let run = call.run.as_str();
    match answer {
        Ok(answer) if answer.status().is_success() => return true,
        Ok(answer) => tracing::warn!(run, status = answer.status().as_u16(), "the webhook does not take it"),
        Err(error) => tracing::warn!(run, %error, "the webhook cannot be called"),
    }
    false
}

/// `t=<ms>,v1=<hex>`: the HMAC-SHA256 of `t.body`.
fn sign(secret: &Secret, ms: u128, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.bytes()).expect("HMAC takes keys of any length");
    mac.update(format!("{ms}.{body}").as_bytes());
    let mut text = format!("t={ms},v1=");
    for byte in mac.finalize().into_bytes() {
        write!(text, "{byte:02x}").expect("a string takes everything");
    }
    text
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("url", &self.url).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_url_that_can_be_called_is_configured() {
        let secret = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(secret.path(), "a secret of more than thirty-two bytes").unwrap();
        let is_taken = |url: &str| {
            let mut settings = Settings::default();
            settings.core.delivery.webhook = Some(url.into());
            settings.webhook_secret_file = Some(secret.path().into());
            configured(&settings).is_ok()
        };
        for url in [
            "https://example.org",
            "http://10.0.0.1:8080/hook?of=runcast",
            "http://[::1]:1/",
            "https://name:word@example.org:443/",
        ] {
            assert!(is_taken(url), "{url}");
        }
        for url in [
            "",
            "example.org",
            "ftp://example.org",
            "https://",
            "http:///path",
            "http://?of=runcast",
            "http://:80/",
            "http://[::1",
            "http://a host/",
            "http://example.org:99999/",
            "https://example.org:https/",
            "https://name:word@example.org:99999/",
        ] {
            assert!(!is_taken(url), "{url}");
        }
    }

    #[test]
    fn a_signature_is_of_the_time_and_the_body() {
        // Computed with `printf '17.{}' | openssl dgst -sha256 -hmac key`.
        let signed = sign(&Secret::new(b"key"), 17, "{}");
        assert_eq!(signed, "t=17,v1=e66392eac42eafc68c35a01c712811e016386c12456975fc3af80c9268568e3a");
    }
}
