create table article (
  id bigint generated always as identity primary key,
  slug text not null unique,
  title text not null
);
create table tag (
  article bigint not null references article on delete cascade,
  name text not null,
  primary key (article, name)
);
