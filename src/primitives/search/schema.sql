-- Each generation of an index has tables of its own. The first write creates them, and they are dropped whole, so an index is only as
-- large as its own words, and dropping it leaves nothing to vacuum.
--
--   search_7        documents: the words with positions and weights, and marks, which are facets and samples (below)
--   search_7_text   the texts, for highlights
--   search_7_word   every spelling with its stem; misspelt words and beginnings of words are compared with these
--   search_7_level  how common a stem is, or, with a + in front, how common it is in fields of weight A and B (below)
--
-- Counting without contention. A document's level is the number of zeros at the end of its id's hash: half of all documents have
-- level 0, a quarter level 1, and so on. A stem gets one row for each level at which a document has it, so n documents leave about
-- log2(n) rows (Flajolet and Martin, 1985). Rows are only inserted, and only if they are new, so writers of common words do not
-- wait for each other. The same level marks a document as part of samples of a half, a quarter, and so on, with which the index itself thins out
-- the matches of a common word.
--
-- The functions set planner options of their own, so that they use the indexes whatever the statistics say at the moment.

create table rung.search_generation (
  generation integer generated always as identity primary key,
  module text not null,
  name text not null
);
create index search_generation_of on rung.search_generation (module, name);

create table rung.search_index (
  module text not null,
  name text not null,
  live integer not null,
  building integer,
  primary key (module, name)
);

create aggregate rung.search_concat (tsvector) (sfunc = tsvector_concat, stype = tsvector, initcond = '');

-- The schema of pg_trgm; null where the server lacks it or this role may not create it.
create function rung.search_trigrams() returns text language sql stable as $$
  select n.nspname from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'pg_trgm'
$$;

-- rung:allow opaque Creates an extension where that is possible; locks nothing that is in use.
do $$ begin
  create extension if not exists pg_trgm with schema rung;
exception when others then
  raise notice 'no pg_trgm: %', sqlerrm;
end $$;

-- In the locale C, trigrams consist of ASCII letters only, so each other letter is replaced by an ASCII letter.
create function rung.search_latin(word text) returns text language sql immutable strict as $$
  select string_agg(case when ascii(letter) < 128 then letter else chr(97 + ascii(letter) % 26) end, '' order by at)
  from string_to_table(word, null) with ordinality letters (letter, at)
$$;

-- The number of zeros at the end of the id's hash, 20 at most.
create function rung.search_level(id text) returns integer language plpgsql immutable as $$
declare
  hash bigint := hashtextextended(id, 0);
begin
  for level in 0 .. 19 loop
    if (hash >> level) & 1 = 1 then return level; end if;
  end loop;
  return 20;
end $$;

-- `indexed`: with the large index. A rebuild creates that after it has put all documents, which is several times faster.
create function rung.search_create(of_module text, of_name text, indexed boolean) returns integer language plpgsql as $$
declare
  g integer;
  trigrams text := rung.search_trigrams();
begin
  insert into rung.search_generation (module, name) values (of_module, of_name) returning generation into g;
  execute format('create table rung.search_%s (
    id text collate "C" primary key, vector tsvector not null, marks text[] not null, gone boolean not null default false
  )', g);
  -- Ranking reads vectors by the thousand, so they are kept in the row and not in TOAST.
  execute format('alter table rung.search_%s alter column vector set storage main, set (toast_tuple_target = 8160,
    autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05)', g);
  -- Without fastupdate: every search would have to read the list of entries that are still to be put into the index.
  if indexed then
    execute format($sql$create index on rung.search_%s using gin (vector, marks, ts_filter(vector, '{a,b}'))
      with (fastupdate = off)$sql$, g);
  end if;
  execute format('create table rung.search_%s_text (id text collate "C" primary key, texts jsonb not null)', g);
  execute format('create table rung.search_%s_word (word text collate "C" primary key, stem text collate "C" not null)', g);
  execute format('create index on rung.search_%s_word (stem)', g);
  if trigrams is not null then
    execute format('create index on rung.search_%s_word using gin (word %I.gin_trgm_ops) with (fastupdate = off)', g, trigrams);
    execute format('create index search_%1$s_word_latin on rung.search_%1$s_word using gin (rung.search_latin(word) %2$I.gin_trgm_ops)
      with (fastupdate = off) where octet_length(word) > char_length(word)', g, trigrams);
  end if;
  execute format('create table rung.search_%s_level (stem text collate "C", level smallint, primary key (stem, level))', g);
  return g;
end $$;

create function rung.search_drop(g integer) returns void language plpgsql as $$
begin
  execute format('drop table if exists rung.search_%1$s, rung.search_%1$s_text, rung.search_%1$s_word, rung.search_%1$s_level', g);
  delete from rung.search_generation where generation = g;
end $$;

-- Writers share the lock until they have committed. A rebuild takes it exclusively when it begins and when it switches, and so waits
-- for writers that do not know of it yet. In isolation levels above read committed the row may be older than the lock.
create function rung.search_open(of_module text, of_name text) returns rung.search_index language plpgsql as $$
declare
  found_index rung.search_index;
begin
  perform pg_advisory_xact_lock_shared(hashtextextended('rung.search ' || of_module || ' ' || of_name, 0));
  select * into found_index from rung.search_index where module = of_module and name = of_name;
  if not found then
    perform pg_advisory_xact_lock(hashtextextended('rung.search new ' || of_module || ' ' || of_name, 0));
    select * into found_index from rung.search_index where module = of_module and name = of_name;
    if not found then
      insert into rung.search_index (module, name, live) values (of_module, of_name, rung.search_create(of_module, of_name, true))
      on conflict do nothing returning * into found_index;
    end if;
  elsif current_setting('transaction_isolation') <> 'read committed' then
    select * into found_index from rung.search_index where module = of_module and name = of_name for share;
  end if;
  return found_index;
end $$;

-- Puts documents into one generation. Rows that would not change are not written.
create function rung.search_put(g integer, language regconfig, documents jsonb, rebuilding boolean) returns void
language plpgsql set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  stems text[];
  levels integer[];
  words text[];
begin
  execute format($sql$
    with given as materialized (
      select d.id collate "C" as id, d.marks, d.fields, rung.search_level(d.id) as level
      from jsonb_to_recordset($1) d (id text, marks text[], fields jsonb)
    ), made as materialized (
      select id, level, marks || array(select '#' || n from generate_series(1, level) n) as marks,
        coalesce((select rung.search_concat(setweight(to_tsvector($2, coalesce(f.form, f.text)), f.weight::"char") order by f.at)
          from rows from (jsonb_to_recordset(fields) as (text text, form text, weight text)) with ordinality f (text, form, weight, at)), '') as vector,
        (select jsonb_object_agg(f.name, f.text) from jsonb_to_recordset(fields) f (name text, text text)) as texts
      from given
    ), put as (
      insert into rung.search_%1$s as old (id, vector, marks) select id, vector, marks from made order by id
      on conflict (id) do update set vector = excluded.vector, marks = excluded.marks, gone = false
        where not $3 and (old.vector <> excluded.vector or old.marks <> excluded.marks or old.gone)
      returning id
    ), kept as (
      insert into rung.search_%1$s_text as old (id, texts)
      select made.id, coalesce(texts, '{}') from made left join put on put.id = made.id -- a join, so that all writers lock documents before texts
      where not $3 or put.id is not null order by made.id
      on conflict (id) do update set texts = excluded.texts where old.texts <> excluded.texts
    ), spelt as materialized (
      select distinct w.lexeme collate "C" as word from given, jsonb_to_recordset(fields) f (text text, form text),
        unnest(to_tsvector('simple', coalesce(f.form, f.text))) w
      where w.lexeme ~ '^[[:alpha:]\u0300-\u036f\u0591-\u0dff]{2,40}$'
        and w.lexeme !~ '[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\ua66e\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff]'
    ), stemmed as materialized (
      select distinct s.lexeme collate "C" as stem, level from made, unnest(vector) s where s.lexeme ~ '^[[:alpha:]\u0300-\u036f\u0591-\u0dff]{1,40}$'
      union
      select '+' || s.lexeme, level from made, unnest(ts_filter(vector, '{a,b}')) s where s.lexeme ~ '^[[:alpha:]\u0300-\u036f\u0591-\u0dff]{1,40}$'
    )
    select (select array_agg(word order by word) from spelt
        where not exists (select from rung.search_%1$s_word known where known.word = spelt.word)),
      array_agg(stem order by stem, level), array_agg(level order by stem, level)
    from stemmed
    where not exists (select from rung.search_%1$s_level known where known.stem = stemmed.stem and known.level = stemmed.level)$sql$, g)
  into words, stems, levels using documents, language, rebuilding;
  -- Bounds on what invented words can fill, by the number of rows at the last vacuum. Words are half of the cost of a long text, so one
  -- document adds no more of them than an ordinary document has.
  words := words[1:2000 * jsonb_array_length(documents)];
  if cardinality(words) > 0
    and (select reltuples from pg_class where oid = format('rung.search_%s_word', g)::regclass) < 1000000 then
    execute format('
      insert into rung.search_%s_word (word, stem)
      select word, stem from (
        select word, (tsvector_to_array(to_tsvector($2, word)))[1] as stem from unnest($1) word
      ) stemmed where stem is not null order by word on conflict do nothing', g) using words, language;
  end if;
  if cardinality(stems) > 0
    and (select reltuples from pg_class where oid = format('rung.search_%s_level', g)::regclass) < 3000000 then
    execute format('insert into rung.search_%s_level select * from unnest($1, $2) order by 1, 2 on conflict do nothing', g)
      using stems, levels;
  end if;
end $$;

-- While a rebuild runs, removed documents are remembered, so that it does not put them back.
create function rung.search_remove(g integer, ids text[], rebuilding boolean) returns void
language plpgsql set enable_seqscan = off as $$
begin
  execute format('delete from rung.search_%s_text where id = any($1)', g) using ids;
  if rebuilding then
    execute format($sql$
      insert into rung.search_%s (id, vector, marks, gone) select id, '', '{}', true from unnest($1) id order by id
      on conflict (id) do update set vector = '', marks = '{}', gone = true$sql$, g) using ids;
  else
    execute format('delete from rung.search_%s where id = any($1)', g) using ids;
  end if;
end $$;

create function rung.search_change(changes jsonb) returns void language plpgsql as $$
declare
  change record;
  of_index rung.search_index;
begin
  for change in
    select * from jsonb_to_recordset(changes) c (module text, name text, language text, puts jsonb, removals text[])
    order by module, name
  loop
    of_index := rung.search_open(change.module, change.name);
    if change.puts <> '[]' then
      perform rung.search_put(of_index.live, change.language::regconfig, change.puts, false);
      if of_index.building is not null then
        perform rung.search_put(of_index.building, change.language::regconfig, change.puts, false);
      end if;
    end if;
    if cardinality(change.removals) > 0 then
      perform rung.search_remove(of_index.live, change.removals, false);
      if of_index.building is not null then
        perform rung.search_remove(of_index.building, change.removals, true);
      end if;
    end if;
  end loop;
end $$;

-- Creates a new generation beside the live one, and drops those that earlier rebuilds have left.
create function rung.search_rebuild_begin(of_module text, of_name text) returns integer language plpgsql as $$
declare
  of_index rung.search_index;
  g integer;
begin
  perform pg_advisory_xact_lock(hashtextextended('rung.search ' || of_module || ' ' || of_name, 0));
  of_index := rung.search_open(of_module, of_name);
  for g in
    select generation from rung.search_generation where module = of_module and name = of_name and generation <> of_index.live
  loop
    perform rung.search_drop(g);
  end loop;
  g := rung.search_create(of_module, of_name, false);
  update rung.search_index set building = g where module = of_module and name = of_name;
  return g;
end $$;

create function rung.search_rebuild_put(of_module text, of_name text, g integer, language regconfig, documents jsonb)
returns void language plpgsql as $$
begin
  if (rung.search_open(of_module, of_name)).building is distinct from g then
    raise exception 'this rebuild has been given up' using errcode = 'RG002';
  end if;
  perform rung.search_put(g, language, documents, true);
end $$;

-- Returns the generation that is no longer read. A transaction of its own drops it, since that may have to wait for readers.
create function rung.search_rebuild_end(of_module text, of_name text, g integer, switch boolean)
returns integer language plpgsql set enable_seqscan = off as $$
declare
  old integer;
begin
  perform pg_advisory_xact_lock(hashtextextended('rung.search ' || of_module || ' ' || of_name, 0));
  select live into old from rung.search_index where module = of_module and name = of_name and building = g;
  if not found then
    raise exception 'this rebuild has been given up' using errcode = 'RG002';
  end if;
  if switch then
    execute format('delete from rung.search_%s where gone', g);
    update rung.search_index set live = g, building = null where module = of_module and name = of_name;
    return old;
  end if;
  update rung.search_index set building = null where module = of_module and name = of_name;
  return g;
end $$;

-- The word without one of its letters, or with neighbouring letters swapped: once, or twice for lengths at which two typos are allowed
-- and leave hardly a trigram.
create function rung.search_variants(word text) returns text[] language sql immutable as $$
  with once as materialized (
    select left(word, at - 1) || substr(word, at + 1, 1) || substr(word, at, 1) || substr(word, at + 2) as variant
    from generate_series(1, char_length(word) - 1) at
  )
  select array(
    select overlay(word placing '' from at for 1) from generate_series(1, char_length(word)) at
    union all
    select variant from once
    union all
    select left(variant, at - 1) || substr(variant, at + 1, 1) || substr(variant, at, 1) || substr(variant, at + 2)
    from once, generate_series(1, char_length(word) - 1) at where char_length(word) between 8 and 13
  )
$$;

-- Each U+0003 in the form stands for one arbitrary word.
create function rung.search_query(language regconfig, form text, kind text) returns tsquery language plpgsql stable as $$
declare
  whole tsquery;
  part tsquery;
  piece text;
  distance integer := 0;
begin
  if kind <> 'phrase' then return plainto_tsquery(language, form); end if;
  foreach piece in array string_to_array(form, chr(3)) loop
    distance := distance + 1;
    part := phraseto_tsquery(language, piece);
    if numnode(part) > 0 then
      whole := case when whole is null then part else tsquery_phrase(whole, part, distance) end;
      distance := 1;
    elsif btrim(piece) <> '' then
      distance := distance + 1;
    end if;
  end loop;
  return coalesce(whole, '');
end $$;

create type rung.search_term as (
  generation integer, documents real, typos boolean, query text, ranking text, docs integer, strong integer, suggestions jsonb
);

-- Returns a row for each term of a query: its tsquery, how common its stems are, and which other words may have been meant.
-- Candidates for a typo are bounded by their letters and by what two typos leave of a word's trigrams.
create function rung.search_look_up(of_module text, of_name text, language regconfig, texts text[], kinds text[])
returns setof rung.search_term
language plpgsql set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  found_term rung.search_term;
  trigrams text := rung.search_trigrams();
  stems text[];
  typed text;
  letters integer;
  variants text[];
  near text;
  resembles text;
  known boolean;
  first_words text := '^[^ ' || chr(3) || ']*(?:[ ' || chr(3) || ']+[^ ' || chr(3) || ']+){0,5}';
begin
  select live into found_term.generation from rung.search_index where module = of_module and name = of_name;
  if not found then return; end if;
  select reltuples into found_term.documents from pg_class
    where oid = format('rung.search_%s', found_term.generation)::regclass;
  found_term.typos := trigrams is not null;
  for i in 1 .. cardinality(texts) loop
    typed := texts[i];
    letters := char_length(typed);
    found_term.suggestions := '[]';
    found_term.query := rung.search_query(language, typed, kinds[i]);
    -- Ranking a long phrase in a text that repeats a word takes more than the square of the phrase's length. Six words rank as well.
    found_term.ranking := case kinds[i] when 'phrase' then rung.search_query(language, substring(typed from first_words), 'phrase')::text
      else found_term.query end;
    execute format($sql$
      select coalesce(min((1 << n) - 1), 0), coalesce(min((1 << n_strong) - 1), 0), array_agg(s) from (
        select s, (select count(*)::int from rung.search_%1$s_level l where l.stem = s) as n,
          (select count(*)::int from rung.search_%1$s_level l where l.stem = '+' || s) as n_strong
        from unnest(tsvector_to_array(to_tsvector($2, $1))) s
      ) counted$sql$, found_term.generation) into found_term.docs, found_term.strong, stems using typed, language;
    if kinds[i] = 'phrase' or typed !~ '^[[:alpha:]\u0300-\u036f\u0591-\u0dff]{1,40}$' then
      return next found_term;
      continue;
    end if;
    if kinds[i] = 'prefix' then
      execute format($sql$
        select coalesce(jsonb_agg(jsonb_build_object('word', word, 'stem', stem, 'docs', (1 << n) - 1) order by n desc, word), '[]') from (
          select stem, min(word) as word, max(n) as n from (
            select word, stem, (select count(*)::int from rung.search_%1$s_level l where l.stem = begun.stem) as n
            from (select word, stem from rung.search_%1$s_word where word >= $1 and word < $2 order by word limit 500) begun
          ) counted group by stem order by n desc, stem limit 16
        ) best$sql$, found_term.generation) into found_term.suggestions using typed, typed || chr(1114111);
    end if;
    if found_term.suggestions = '[]' and letters >= 4 and found_term.query <> '' then
      execute format('select exists (select from rung.search_%s_word where stem = any($1))', found_term.generation)
        into known using stems;
      if not known then
        -- Swapped letters leave hardly a trigram of a short word, and surplus letters are quickly tried: both are looked up.
        variants := rung.search_variants(typed);
        near := 'select word, stem from rung.search_%1$s_word where word = any($2) and word <> $1';
        if trigrams is not null then
          perform set_config('pg_trgm.similarity_threshold',
            case when letters < 8 then 0.2 else least(0.3, (letters - 6.0) / (letters + 8) - 0.01) end::text, true);
          resembles := $sql$char_length(word) between $3 - $4 and $3 + $4 and word <> $1
            and char_length(translate(word, $1, '')) <= $4 and char_length(translate($1, word, '')) <= $4$sql$;
          near := near || ' union (select word, stem from rung.search_%1$s_word where word operator(%2$I.%%) $1 and ' || resembles || '
            order by %2$I.similarity(word, $1) desc, word limit 200)
            union (select word, stem from rung.search_%1$s_word
            where octet_length(word) > char_length(word) and rung.search_latin(word) operator(%2$I.%%) $5 and ' || resembles || '
            order by %2$I.similarity(rung.search_latin(word), $5) desc, word limit 200)';
        end if;
        execute format($sql$
          select coalesce(jsonb_agg(jsonb_build_object('word', word, 'stem', stem, 'docs',
            (1 << (select count(*)::int from rung.search_%1$s_level l where l.stem = near.stem)) - 1)), '[]')
          from ($sql$ || near || ') near', found_term.generation, trigrams)
        into found_term.suggestions using typed, variants, letters, case when letters < 8 then 1 else 2 end, rung.search_latin(typed);
      end if;
    end if;
    return next found_term;
  end loop;
end $$;

-- The best documents among at most candidates_max; where not all matches were looked at, also among half as many that have the words
-- in fields of weight A and B. The index returns a bitmap of the matches at the cost of the rarest word; only the candidates are read.
-- Facets are counted with `unnest` in a select list, which makes no scan for each document and so takes half the time.
create function rung.search_find(
  g integer, query tsquery, ranking tsquery, filters jsonb, facets text[], thinning integer, thinning_strong integer,
  candidates_max integer, hits_max integer, hits_from integer
) returns jsonb language plpgsql set enable_seqscan = off set enable_indexscan = off set enable_indexonlyscan = off as $$
declare
  filtered text;
  answer jsonb;
begin
  select coalesce(string_agg(format(' and marks && %L::text[]', array(select jsonb_array_elements_text(one))), ''), '')
    into filtered from jsonb_array_elements(filters) one;
  execute format($sql$
    with plain as materialized (
      select id, marks, ts_rank_cd('{0.1,0.2,0.4,1.0}', vector, $6, 1) as score
      from rung.search_%1$s where vector @@ $1 %2$s %3$s limit $2 + 1
    ), strong as materialized (
      select id, ts_rank_cd('{0.1,0.2,0.4,1.0}', vector, $6, 1) as score
      from rung.search_%1$s where %5$s ts_filter(vector, '{a,b}') @@ $1 %2$s %4$s limit $2 / 2
    ), best as materialized (
      select id, max(score) as score from (select id, score from plain union all select id, score from strong) every
      group by id order by score desc, id limit $3 offset $4
    ), counted as materialized (
      select split_part(mark, '=', 1) as facet, mark, count(*) as n
      from (select unnest(marks) as mark from (select marks from plain where cardinality($5) > 0 limit $2) counted) every
      group by mark
    )
    select jsonb_build_object(
      'total', (select count(*) from plain),
      'hits', (select coalesce(jsonb_agg(jsonb_build_object('id', id, 'score', score) order by score desc, id), '[]') from best),
      'facets', (select coalesce(jsonb_agg(jsonb_build_object('mark', mark, 'count', n) order by n desc, mark), '[]')
        from unnest($5) wanted, lateral (
          select mark, n from counted where facet = wanted order by n desc, mark limit 50
        ) commonest)
    )$sql$, g, filtered,
    case when thinning > 0 then format(' and marks @> array[%L]', '#' || thinning) else '' end,
    case when thinning_strong > 0 then format(' and marks @> array[%L]', '#' || thinning_strong) else '' end,
    case when thinning = 0 then '(select count(*) from plain) > $2 and' else '' end)
  into answer using query, candidates_max, hits_max, hits_from, facets, ranking;
  return answer;
end $$;

create function rung.search_texts(g integer, ids text[], fields text[])
returns table (id text, field text, text text) language plpgsql set enable_seqscan = off as $$
begin
  return query execute format($sql$
    select t.id::text, field, left(t.texts ->> field, 10000)
    from rung.search_%s_text t, unnest($2) field where t.id = any($1) and t.texts ? field$sql$, g)
  using ids, fields;
end $$;

-- Marks the whole text: ts_headline would take quadratic time to choose the best piece. It would also omit whatever looks like markup.
create function rung.search_marked(language regconfig, form text, query tsquery) returns text language sql stable as $$
  select ts_headline(language, translate(form, '<>&', '   '), query, 'HighlightAll=true,StartSel=' || chr(1) || ',StopSel=' || chr(2))
$$;
