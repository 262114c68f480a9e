//! Names of enums, once.

/// Gives an enum without fields `ALL` its values, and their names by `as_str`.
macro_rules! names {
    ($type:ty, $($variant:ident = $name:literal),+) => {
        impl $type {
            /// Every value, in declaration order.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// The name in files, options and reports.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}
pub(crate) use names;
