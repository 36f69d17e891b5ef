mod diverged;
mod gaps;
mod limits;
mod model;
mod rules;
mod sections;
mod tape;
