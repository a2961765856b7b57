//! What a token is good for (PROTOCOL §3, `scope`).

/// One thing that a token may be good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// To run agents and watch.
    User,
    /// To execute runs.
    Worker,
    /// To run agents for users.
    Publish,
    /// To see and steer everything.
    Operate,
}

impl Scope {
    const ALL: [Self; 4] = [Self::User, Self::Worker, Self::Publish, Self::Operate];

    /// As it stands in a token.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Worker => "worker",
            Self::Publish => "publish",
            Self::Operate => "operate",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// All that a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scopes(u8);

impl Scopes {
    /// The scopes of a claim: words with spaces between them, `user` when it is absent. Others' words are
    /// passed over.
    pub(crate) fn parse(claim: Option<&str>) -> Self {
        let words = claim.unwrap_or(Scope::User.as_str());
        let known = |word: &str| Scope::ALL.into_iter().find(|scope| scope.as_str() == word);
        Self(words.split(' ').filter_map(known).fold(0, |bits, scope| bits | scope.bit()))
    }

    /// Whether this is one of them.
    pub(crate) const fn has(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }
}
