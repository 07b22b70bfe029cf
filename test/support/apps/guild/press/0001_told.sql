create table press.told (
  person integer not null,
  version integer not null,
  by text not null,
  primary key (person, version)
);
