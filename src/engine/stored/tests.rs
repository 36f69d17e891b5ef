mod diverged;
mod gaps;
mod limits;
mod model;
mod moves;
mod rules;
mod sections;
mod tape;
