//! Things that a list gives a number and a name: one list makes the enum and all that can be read off it.
//!
//! What a thing *means* is said by `match` without a wildcard, where it is meant: an entry that is not finished does not
//! compile.

use std::fmt::Display;

use crate::error::{Error, Result};

/// Makes an enum of things that have a name, and a number in a pack where each is given one: `Variant = 7 => "name"`.
///
/// A number is never used twice, and never again for something else.
macro_rules! numbered {
    ($(#[$meta:meta])* pub enum $Enum:ident, $what:literal {
        $($(#[$doc:meta])* $Variant:ident = $code:literal => $name:literal,)+
    }) => {
        $crate::model::numbered::named! {
            $(#[$meta])*
            #[repr(u8)]
            pub enum $Enum, $what { $($(#[$doc])* $Variant = $code => $name,)+ }
        }

        impl $Enum {
            /// The largest number that this build knows.
            pub const NEWEST: u8 = $crate::model::numbered::largest(&[$($code),+]);

            #[doc = concat!("The number of the ", $what, " in a pack.")]
            pub const fn code(self) -> u8 {
                self as u8
            }

            #[doc = concat!("The ", $what, " with this number in a pack.")]
            pub const fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$Variant),)+
                    _ => None,
                }
            }

            #[doc = concat!("The ", $what, " with this number in a pack.")]
            ///
            /// # Errors
            /// `Unsupported` for a number that this build does not know.
            pub fn known(code: u8) -> $crate::error::Result<Self> {
                Self::from_code(code).ok_or_else(|| $crate::error::Error::unsupported($what, code, Self::NEWEST))
            }
        }
    };
}
pub(crate) use numbered;

/// Makes an enum of things that have a name: `Variant => "name"`.
macro_rules! named {
    ($(#[$meta:meta])* pub enum $Enum:ident, $what:literal {
        $($(#[$doc:meta])* $Variant:ident $(= $code:literal)? => $name:literal,)+
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $Enum {
            $($(#[$doc])* $Variant $(= $code)?,)+
        }

        impl $Enum {
            #[doc = concat!("Every ", $what, ", in the order of the list.")]
            pub const ALL: &'static [Self] = &[$(Self::$Variant),+];

            #[doc = concat!("The name of the ", $what, ".")]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$Variant => $name,)+
                }
            }

            #[doc = concat!("The ", $what, " of this name.")]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.name() == name)
            }
        }

        impl std::fmt::Display for $Enum {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}
pub(crate) use named;

/// The one whose name a user gave.
///
/// # Errors
/// `InvalidInput`, with the names there are.
pub(crate) fn chosen<T: Copy + Display>(what: &str, name: &str, among: &[T]) -> Result<T> {
    among.iter().copied().find(|one| one.to_string() == name).ok_or_else(|| {
        let names = names(among);
        Error::InvalidInput(format!("{what} \"{name}\" is not known; use one of {names}"))
    })
}

/// Names, for a sentence.
pub(crate) fn names<T: Display>(all: &[T]) -> String {
    all.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

/// The largest of some numbers.
pub(crate) const fn largest(codes: &[u8]) -> u8 {
    match codes {
        [] => 0,
        [first, rest @ ..] => {
            let other = largest(rest);
            if *first > other { *first } else { other }
        }
    }
}
