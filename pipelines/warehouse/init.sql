-- What a warehouse in PostgreSQL needs once; `nightshelf warehouse init` runs it, as a role that may create schemas and
-- grant. The three login roles exist. Releases are schemas that the loader makes, owns and drops; {views} shows the
-- current one, {audit} keeps the history. Readers can see nothing but the views.
grant create on database {database} to {loader};
create schema if not exists {views} authorization {publisher};
create schema if not exists {audit} authorization {publisher};
grant usage on schema {views} to {reader};
grant usage on schema {audit} to {loader};
create table if not exists {audit}.releases (
  number bigint generated always as identity primary key,
  at timestamptz not null,
  action text not null,
  release text not null,
  is_current boolean not null,
  replaced text,
  who text not null,
  why text,
  details jsonb not null
);
create table if not exists {audit}.manifests (release text primary key, manifest jsonb not null);
alter table {audit}.releases owner to {publisher};
alter table {audit}.manifests owner to {publisher};
grant select, insert on {audit}.manifests to {loader};
alter default privileges for role {publisher} in schema {views} grant select on tables to {reader};
