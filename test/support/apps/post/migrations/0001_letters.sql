create table post.letter (id bigint generated always as identity primary key, text text not null);
insert into post.letter (text) select 'letter ' || n from generate_series(1, 20) n;
