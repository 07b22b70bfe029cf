create table placed (id bigint generated always as identity primary key, item_id bigint not null);
