create table thing (
  id int primary key,
  version int not null
);
