//! Maps whose keys are not texts, written as a list of pairs: JSON has no other form for them.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(crate) fn serialize<K: Serialize, V: Serialize, S: Serializer>(
    map: &BTreeMap<K, V>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(map)
}

pub(crate) fn deserialize<'de, K, V, D>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
where
    K: Deserialize<'de> + Ord,
    V: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Vec::deserialize(deserializer).map(|pairs: Vec<(K, V)>| pairs.into_iter().collect())
}

/// The same for a map that may not have been had.
pub(crate) mod perhaps {
    use super::*;

    #[derive(Deserialize)]
    #[serde(bound = "K: Deserialize<'de> + Ord, V: Deserialize<'de>, E: Deserialize<'de>")]
    struct Pairs<K, V, E>(Result<Vec<(K, V)>, E>);

    pub(crate) fn serialize<K: Serialize, V: Serialize, E: Serialize, S: Serializer>(
        map: &Result<BTreeMap<K, V>, E>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let pairs = map.as_ref().map(|map| map.iter().collect::<Vec<_>>());
        pairs.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, K, V, E, D>(
        deserializer: D,
    ) -> Result<Result<BTreeMap<K, V>, E>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        E: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        let Pairs(pairs) = Pairs::deserialize(deserializer)?;
        Ok(pairs.map(|pairs| pairs.into_iter().collect()))
    }
}
