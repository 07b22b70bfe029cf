create table item (id bigint primary key, n integer not null);
