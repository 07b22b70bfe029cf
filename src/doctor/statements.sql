-- Statements of this database that touch rows, those with the most time first; users are added up. A text that is too long
-- to be worth parsing counts, but comes last. The extension's schema is on the search path.
select /* rung:doctor */
  *,
  sum("totalMs") over () as "allMs",
  count(*) over () as "all",
  count(*) filter (where hidden) over () as "allHidden"
from (
  select
    queryid::text as id,
    min(query) as text,
    bool_or(query = '<insufficient privilege>') as hidden,
    sum(calls)::float8 as calls,
    sum(total_exec_time) as "totalMs",
    sum(rows)::float8 as rows
  from pg_stat_statements
  where dbid = (select oid from pg_database where datname = current_database())
    and position('/* rung:doctor */' in query) = 0
    and (query = '<insufficient privilege>'
      or query ~* '^(\s|/\*.*?\*/|--[^\n]*\n|\()*(select|insert|update|delete|merge|with|values|table)\M')
  group by queryid
) s
order by hidden, length(text) > 20000, "totalMs" desc
limit 200
