//! The region: what the cloud does behind its API, as far as a CNI can see it.
//!
//! [`Region`] is a pure machine. It takes signed calls, metadata requests and the time, and gives
//! answers, deadlines and [`Effect`]s; it reads no clock, does no I/O and draws every id from a
//! seeded generator, so the same inputs give the same region twice. [`http`] is the thin shell that
//! puts it on a socket.
//!
//! It must never know the project's own cloud client: the two meet in the cloud's documents and in
//! the official SDK only, because an oracle that shares code with what it judges shares its bugs.

mod calls;
mod config;
mod dice;
mod effect;
mod fault;
mod gate;
mod group;
mod history;
pub mod http;
mod instance_types;
mod instances;
mod iso;
mod journal;
mod metadata;
mod params;
mod refusal;
mod region;
mod render;
mod request;
mod sign;
mod snapshot;
mod state;
mod tokens;
mod vswitch;
mod world;

pub use config::{
    AccessKey, ConfigError, Grant, Limits, MetadataTokens, RegionConfig, Timing, VSwitchSpec,
};
pub use effect::Effect;
pub use fault::{CallFault, Fault};
pub use group::{Direction, GroupKind, KnownRule, Policy, RULES_MAX, Remote, Rule, SecurityGroup};
pub use instance_types::{InstanceType, instance_type, instance_types};
pub use instances::RunError;
pub use journal::CallRecord;
pub use metadata::{MetadataRequest, MetadataResponse};
pub use region::Region;
pub use request::{ApiRequest, ApiResponse, Delivery};
pub use snapshot::{EniView, RegionSnapshot, VSwitchView};
pub use state::{Instance, InstanceSpec, Ride};
