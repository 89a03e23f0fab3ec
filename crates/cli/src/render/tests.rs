//! Whole screens, compared as text.
