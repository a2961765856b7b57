//! Scenes: what the protocol promises and the worlds of the simulator do not come to, or would not notice,
//! each played by hand through the core's face. Most are here because a change that `cargo mutants` made was
//! seen by nobody (`sim/MUTANTS.md`).

mod alerts;
mod audit;
mod backlog;
mod breaker;
mod complete;
mod daemon;
mod decline;
mod devices;
mod drain;
mod erase;
mod expiry;
mod full;
mod inputs;
mod isolation;
mod lease;
mod missing;
mod overview;
mod pace;
mod places;
mod positions;
mod publish;
mod purge;
mod rates;
mod revoke;
mod serves;
mod started;
mod strangers;
mod stream;
mod subscribe;
mod timeout;
mod topics;
mod turns;
mod undelivered;
mod unread;
