//! The order of a listing, which the query of its target asks for: `sort=size&order=desc`.

use std::cmp::Reverse;

use super::entries::Entry;

/// The order of a listing: its key and its direction. The default is Python's order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) key: Key,
    pub(super) direction: Direction,
}

/// The key of an order, which `sort` names in a query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Key {
    /// The name in lower case.
    #[default]
    Name,
    /// The size; what has none counts as less.
    Size,
    /// The time of the last modification; an unknown time counts as earlier.
    Date,
}

/// The direction of an order, which `order` names in a query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Direction {
    #[default]
    Ascending,
    Descending,
}

impl Key {
    pub(super) const ALL: [Key; 3] = [Key::Name, Key::Size, Key::Date];

    /// Returns the key as it stands in a query.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Key::Name => "name",
            Key::Size => "size",
            Key::Date => "date",
        }
    }
}

impl Direction {
    const ALL: [Direction; 2] = [Direction::Ascending, Direction::Descending];

    /// Returns the direction as it stands in a query.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Direction::Ascending => "asc",
            Direction::Descending => "desc",
        }
    }
}

impl Order {
    /// Returns the order that `query` asks for. A key or direction that is missing, or not one of ours, is
    /// Python's.
    pub(super) fn of_query(query: &str) -> Order {
        let value_of = |name| {
            query
                .split('&')
                .filter_map(|pair| pair.split_once('='))
                .find(|(found, _)| *found == name)
                .map(|(_, value)| value)
        };
        let (sort, order) = (value_of("sort"), value_of("order"));
        let key = Key::ALL.into_iter().find(|key| sort == Some(key.as_str()));
        let direction = Direction::ALL
            .into_iter()
            .find(|direction| order == Some(direction.as_str()));
        Order {
            key: key.unwrap_or_default(),
            direction: direction.unwrap_or_default(),
        }
    }

    /// Returns the order that choosing `key` leads to from this one: the other way round if `key` is chosen
    /// already, else names from A to Z, and the largest or the newest first.
    pub(super) fn choose(self, key: Key) -> Order {
        use Direction::{Ascending, Descending};
        let direction = match (self.direction, key) {
            (Ascending, _) if key == self.key => Descending,
            (Descending, _) if key == self.key => Ascending,
            (_, Key::Name) => Ascending,
            (_, Key::Size | Key::Date) => Descending,
        };
        Order { key, direction }
    }

    /// Sorts `entries`, which are by name, ascending; entries that are equal stay in the order of their
    /// names.
    pub(super) fn sort(self, entries: &mut [Entry]) {
        use Direction::{Ascending, Descending};
        match (self.key, self.direction) {
            (Key::Name, Ascending) => {}
            (Key::Name, Descending) => entries.reverse(),
            (Key::Size, Ascending) => entries.sort_by_key(|entry| entry.size),
            (Key::Size, Descending) => entries.sort_by_key(|entry| Reverse(entry.size)),
            (Key::Date, Ascending) => entries.sort_by_key(|entry| entry.modified),
            (Key::Date, Descending) => entries.sort_by_key(|entry| Reverse(entry.modified)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(key: Key, direction: Direction) -> Order {
        Order { key, direction }
    }

    #[test]
    fn a_query_names_an_order() {
        use Direction::{Ascending, Descending};
        for (query, key, direction) in [
            ("", Key::Name, Ascending),
            ("sort=name", Key::Name, Ascending),
            ("sort=size", Key::Size, Ascending),
            ("sort=date&order=asc", Key::Date, Ascending),
            ("sort=date&order=desc", Key::Date, Descending),
            ("order=desc", Key::Name, Descending),
            ("x&order=desc&&sort=size&sort=date", Key::Size, Descending),
            ("sort=SIZE&order=down", Key::Name, Ascending),
            ("sort&order", Key::Name, Ascending),
            ("asort=size", Key::Name, Ascending),
        ] {
            assert_eq!(Order::of_query(query), order(key, direction), "{query}");
        }
    }

    #[test]
    fn choosing_again_turns_it_round() {
        use Direction::{Ascending, Descending};
        for (from, key, direction) in [
            (Order::default(), Key::Name, Descending),
            (order(Key::Name, Descending), Key::Name, Ascending),
            (Order::default(), Key::Size, Descending),
            (order(Key::Size, Descending), Key::Size, Ascending),
            (order(Key::Size, Ascending), Key::Date, Descending),
            (order(Key::Date, Descending), Key::Name, Ascending),
        ] {
            assert_eq!(from.choose(key), order(key, direction), "{from:?}");
        }
    }
}
