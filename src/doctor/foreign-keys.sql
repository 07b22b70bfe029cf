-- Foreign keys, without those that a partition has from its parent.
select /* rung:doctor */
  conname as name,
  conrelid::int8 as "tableOid",
  confrelid::int8 as "referencedOid",
  array(
    select a.attname::text from unnest(conkey) with ordinality k (attnum, at)
    join pg_attribute a on a.attrelid = conrelid and a.attnum = k.attnum order by k.at
  ) as columns
from pg_constraint where contype = 'f' and conparentid = 0
order by conrelid, conname
