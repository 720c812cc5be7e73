//! The crate against the running kernel, with iproute2 as the independent witness of what it wrote.
//!
//! Needs root: every test makes namespaces of its own, unnamed ones that vanish with the last
//! descriptor, and touches nothing outside them. Without root the tests fail and say so.

#[cfg(test)]
mod eni;
#[cfg(test)]
mod floor;
#[cfg(test)]
mod flows;
#[cfg(test)]
mod heal;
#[cfg(test)]
mod ipvlan_pods;
#[cfg(test)]
mod masquerade;
#[cfg(test)]
mod own_eni;
#[cfg(test)]
mod pod;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod removal;
#[cfg(test)]
mod repair;
#[cfg(test)]
mod return_path;
#[cfg(test)]
mod several;
#[cfg(test)]
mod sockets;
#[cfg(test)]
mod stage;
#[cfg(test)]
mod traffic;
#[cfg(test)]
mod trunk;
#[cfg(test)]
mod vpc;
#[cfg(test)]
mod wire;
