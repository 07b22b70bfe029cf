create table view_day (
  article_id bigint not null references article (id) on delete cascade,
  day date not null,
  n bigint not null,
  primary key (article_id, day)
) with (fillfactor = 80); -- the same rows change all day
