//! What every call of the API has in common: parameters that can be computed and an answer that can
//! be decoded, with no network in sight.

use crate::{
    DecodeError,
    rpc::{Params, Product},
};

/// A call of the cloud's API, as a value.
pub trait Call: Sync {
    /// The API's name for it.
    const ACTION: &'static str;
    /// The service it belongs to.
    const PRODUCT: Product;
    /// What the answer is decoded into.
    type Output;

    /// Whether the call stays within the API's documented limits.
    ///
    /// # Errors
    /// When the cloud would refuse it for certain.
    fn check(&self) -> Result<(), RequestError> {
        Ok(())
    }

    /// The parameters of the call. Equal calls give equal parameters.
    fn params(&self) -> Params;

    /// Reads the document of a successful answer.
    ///
    /// # Errors
    /// When something that is needed is missing, of another type or nonsensical. What the document
    /// holds beyond that is ignored.
    fn decode(&self, body: &[u8]) -> Result<Self::Output, DecodeError>;
}

/// A call the API's documentation rules out; it was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{parameter} would carry {found} {what}; the API allows {min} to {max}")]
pub struct RequestError {
    /// The parameter as the API names it.
    pub parameter: &'static str,
    /// What is counted.
    pub what: &'static str,
    /// How many there are.
    pub found: usize,
    /// The fewest allowed.
    pub min: usize,
    /// The most allowed.
    pub max: usize,
}

impl RequestError {
    /// Refuses `found` outside `min..=max`.
    pub(crate) fn bound(
        parameter: &'static str,
        what: &'static str,
        found: usize,
        min: usize,
        max: usize,
    ) -> Result<(), Self> {
        if (min..=max).contains(&found) {
            return Ok(());
        }
        Err(Self {
            parameter,
            what,
            found,
            min,
            max,
        })
    }
}
