-- A climb is recorded as a deploy of the build that runs, from the rung at which it ran.
alter table rung.deploy add column from_rung text;
