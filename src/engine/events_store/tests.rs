mod diverged;
mod limits;
mod model;
mod rules;
mod sections;
mod tape;
