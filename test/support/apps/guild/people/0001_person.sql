create table people.person (
  id integer primary key,
  name text not null,
  version integer not null
);
