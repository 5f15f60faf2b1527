#include "fs/meta/sql.h"

#include "fs/meta/outbox.h"

#define NODE_COLUMNS                                                                               \
	"ino, mode, nlink, uid, gid, rdev, flags, size, bytes, parent, atime, mtime, ctime, btime"
#define SEGMENT_COLUMNS "num, id, keyno, code_k, state, extents, length, live, created, born, died"
#define CODING_COLUMNS                                                                             \
	"coding.set_id, seg, k, m, state, ord, coalesce(shard.present, 0), "                       \
	"coalesce(shard.suspect, 0)"
#define CODING_FROM " FROM coding LEFT JOIN shard ON shard.set_id = coding.set_id "

const char *const sql_text[SQL_COUNT] = {
	[SQL_NODE_GET] = "SELECT " NODE_COLUMNS " FROM node WHERE ino = ?1",
	[SQL_NODE_INSERT] = "INSERT OR IGNORE INTO node(" NODE_COLUMNS
			    ") VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14)",
	[SQL_NODE_UPDATE] =
	    "UPDATE node SET mode=?2, nlink=?3, uid=?4, gid=?5, rdev=?6, flags=?7, size=?8,"
	    " bytes=?9, parent=?10, atime=?11, mtime=?12, ctime=?13, btime=?14 WHERE ino=?1",
	[SQL_NODE_DELETE] = "DELETE FROM node WHERE ino=?1",
	[SQL_NODE_ORPHANS] =
	    "SELECT ino FROM node INDEXED BY node_orphan WHERE nlink=0 ORDER BY ino",

	[SQL_LINK_GET] = "SELECT target FROM link WHERE ino=?1",
	[SQL_LINK_PUT] = "INSERT OR REPLACE INTO link(ino, target) VALUES(?1,?2)",
	[SQL_LINK_DELETE] = "DELETE FROM link WHERE ino=?1",

	[SQL_NAME_GET] = "SELECT ino, cookie, type FROM name WHERE parent=?1 AND name=?2",
	[SQL_NAME_INSERT] = "INSERT OR IGNORE INTO name(parent, name, ino, cookie, type)"
			    " VALUES(?1,?2,?3,?4,?5)",
	[SQL_NAME_RETARGET] = "UPDATE name SET ino=?3, type=?4 WHERE parent=?1 AND name=?2",
	[SQL_NAME_DELETE] = "DELETE FROM name WHERE parent=?1 AND name=?2",
	[SQL_NAME_PAGE] = "SELECT name, ino, cookie, type FROM name INDEXED BY name_cookie"
			  " WHERE parent=?1 AND cookie>?2 ORDER BY cookie LIMIT ?3",
	[SQL_NAME_ANY] = "SELECT 1 FROM name WHERE parent=?1 LIMIT 1",

	[SQL_XATTR_GET] = "SELECT value FROM xattr WHERE ino=?1 AND name=?2",
	[SQL_XATTR_PUT] = "INSERT OR REPLACE INTO xattr(ino, name, value) VALUES(?1,?2,?3)",
	[SQL_XATTR_DELETE] = "DELETE FROM xattr WHERE ino=?1 AND name=?2",
	[SQL_XATTR_LIST] = "SELECT name FROM xattr WHERE ino=?1 ORDER BY name",
	[SQL_XATTR_ANY] = "SELECT 1 FROM xattr WHERE ino=?1 LIMIT 1",

	/* From the last run that begins at or before ?2, for that one may reach in. */
	[SQL_RUN_PAGE] =
	    "SELECT off, len, skip, seg, first FROM run WHERE ino=?1 AND off>=coalesce((SELECT"
	    " off FROM run WHERE ino=?1 AND off<=?2 ORDER BY off DESC LIMIT 1), ?2) AND off<?3"
	    " ORDER BY off LIMIT ?4",
	[SQL_RUN_BEFORE] = "SELECT off, len, skip, seg, first FROM run WHERE ino=?1 AND off<?2"
			   " ORDER BY off DESC LIMIT ?3",
	[SQL_RUN_INSERT] = "INSERT OR IGNORE INTO run(ino, off, len, skip, seg, first)"
			   " VALUES(?1,?2,?3,?4,?5,?6)",
	[SQL_RUN_RESIZE] = "UPDATE run SET len=?3 WHERE ino=?1 AND off=?2",
	[SQL_RUN_DELETE] = "DELETE FROM run WHERE ino=?1 AND off=?2",
	[SQL_RUN_TAKE] = "DELETE FROM run WHERE ino=?1 AND off=?2 RETURNING len",
	[SQL_RUN_ANY] = "SELECT 1 FROM run WHERE ino=?1 LIMIT 1",
	[SQL_RUN_OF_SEGMENT] =
	    "SELECT ino, off, len, skip, first FROM run INDEXED BY run_seg WHERE seg=?1"
	    " AND (first, ino, off) > (?2, ?3, ?4) ORDER BY first, ino, off LIMIT ?5",

	[SQL_SEGMENT_GET] = "SELECT " SEGMENT_COLUMNS " FROM segment WHERE num=?1",
	[SQL_SEGMENT_INSERT] = "INSERT OR IGNORE INTO segment(" SEGMENT_COLUMNS
			       ") VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11)",
	[SQL_SEGMENT_UPDATE] =
	    "UPDATE segment SET id=?2, keyno=?3, code_k=?4, state=?5, extents=?6,"
	    " length=?7, live=?8, created=?9, born=?10, died=?11 WHERE num=?1",
	[SQL_SEGMENT_DELETE] = "DELETE FROM segment WHERE num=?1",
	[SQL_SEGMENT_EACH] = "SELECT " SEGMENT_COLUMNS " FROM segment ORDER BY num",
	[SQL_INDEX_GET] = "SELECT data FROM segindex WHERE num=?1",
	[SQL_INDEX_PUT] = "INSERT OR REPLACE INTO segindex(num, data) VALUES(?1,?2)",
	[SQL_INDEX_DELETE] = "DELETE FROM segindex WHERE num=?1",

	[SQL_CODING_GET] = "SELECT " CODING_COLUMNS CODING_FROM "WHERE coding.set_id=?1",
	[SQL_CODING_INSERT] = "INSERT OR IGNORE INTO coding(set_id, seg, k, m, state, ord)"
			      " VALUES(?1,?2,?3,?4,?5,?6)",
	[SQL_CODING_STATE] = "UPDATE coding SET state=?2 WHERE set_id=?1",
	[SQL_CODING_DELETE] = "DELETE FROM coding WHERE set_id=?1",
	[SQL_CODING_OF_SEGMENT] =
	    "SELECT " CODING_COLUMNS CODING_FROM "WHERE coding.seg=?1 ORDER BY ord",
	[SQL_CODING_EACH] = "SELECT " CODING_COLUMNS CODING_FROM "ORDER BY ord",
	[SQL_SHARD_PUT] = "INSERT OR REPLACE INTO shard(set_id, present, suspect) VALUES(?1,?2,?3)",
	[SQL_SHARD_DELETE] = "DELETE FROM shard WHERE set_id=?1",

	[SQL_DRIVE_GET] = "SELECT value FROM drive WHERE key=?1",
	[SQL_DRIVE_PUT] = "INSERT OR REPLACE INTO drive(key, value) VALUES(?1,?2)",
	[SQL_DRIVE_DELETE] = "DELETE FROM drive WHERE key=?1",
	[SQL_LOCAL_GET] = "SELECT value FROM local WHERE key=?1",
	[SQL_LOCAL_PUT] = "INSERT OR REPLACE INTO local(key, value) VALUES(?1,?2)",
	[SQL_LOCAL_DELETE] = "DELETE FROM local WHERE key=?1",

	[SQL_OUTBOX_PUT] = "INSERT OR REPLACE INTO outbox(seq, data) VALUES(?1,?2)",
	[SQL_OUTBOX_EACH] = "SELECT seq, data FROM outbox WHERE seq>?1 ORDER BY seq",
	[SQL_OUTBOX_SUM] = "SELECT seq, length(data) FROM outbox WHERE seq<=?1 ORDER BY seq",
	[SQL_OUTBOX_TRIM] = "DELETE FROM outbox WHERE seq<=?1",
	[SQL_SUMS_GET] = "SELECT bytes, inodes, seq, blobs, blob_bytes FROM sums WHERE one=1",
	[SQL_SUMS_PUT] = "UPDATE sums SET bytes=?1, inodes=?2, seq=?3, blobs=?4, blob_bytes=?5"
			 " WHERE one=1",
	[SQL_MAX_INO] = "SELECT coalesce(max(ino), 0) FROM node",
};

const char *const sql_snapshot[] = {
	[OUTBOX_NODE] = "SELECT " NODE_COLUMNS " FROM node ORDER BY ino",
	[OUTBOX_LINK] = "SELECT ino, target FROM link ORDER BY ino",
	[OUTBOX_NAME] = "SELECT parent, name, ino, cookie, type FROM name ORDER BY parent, name",
	[OUTBOX_XATTR] = "SELECT ino, name, value FROM xattr ORDER BY ino, name",
	[OUTBOX_RUN] = "SELECT ino, off, len, skip, seg, first FROM run ORDER BY ino, off",
	[OUTBOX_SEGMENT] = "SELECT " SEGMENT_COLUMNS " FROM segment ORDER BY num",
	[OUTBOX_INDEX] = "SELECT num, data FROM segindex ORDER BY num",
	[OUTBOX_CODING] = "SELECT set_id, seg, k, m, state, ord FROM coding ORDER BY ord",
	[OUTBOX_DRIVE] = "SELECT key, value FROM drive ORDER BY key",
};

/* Names, values and ids are blobs: bytes, compared as bytes. The index of names carries all that
 * reading a folder needs, so that a page is one walk along it; its uniqueness (a cookie is never
 * given twice) is the allocator's. The partial index is empty but for orphans. */
static const char schema_1[] =
    "CREATE TABLE node(ino INTEGER PRIMARY KEY, mode INTEGER NOT NULL, nlink INTEGER NOT NULL,"
    " uid INTEGER NOT NULL, gid INTEGER NOT NULL, rdev INTEGER NOT NULL,"
    " flags INTEGER NOT NULL, size INTEGER NOT NULL, bytes INTEGER NOT NULL,"
    " parent INTEGER NOT NULL, atime INTEGER NOT NULL, mtime INTEGER NOT NULL,"
    " ctime INTEGER NOT NULL, btime INTEGER NOT NULL);"
    "CREATE INDEX node_orphan ON node(ino) WHERE nlink = 0;"
    "CREATE TABLE link(ino INTEGER PRIMARY KEY, target BLOB NOT NULL);"
    "CREATE TABLE name(parent INTEGER NOT NULL, name BLOB NOT NULL, ino INTEGER NOT NULL,"
    " cookie INTEGER NOT NULL, type INTEGER NOT NULL, PRIMARY KEY(parent, name))"
    " WITHOUT ROWID;"
    "CREATE INDEX name_cookie ON name(parent, cookie, ino, type);"
    "CREATE TABLE xattr(ino INTEGER NOT NULL, name BLOB NOT NULL, value BLOB NOT NULL,"
    " PRIMARY KEY(ino, name)) WITHOUT ROWID;"
    "CREATE TABLE run(ino INTEGER NOT NULL, off INTEGER NOT NULL, len INTEGER NOT NULL,"
    " skip INTEGER NOT NULL, seg INTEGER NOT NULL, first INTEGER NOT NULL,"
    " PRIMARY KEY(ino, off)) WITHOUT ROWID;"
    "CREATE INDEX run_seg ON run(seg, first, ino, off);"
    "CREATE TABLE segment(num INTEGER PRIMARY KEY, id BLOB NOT NULL, keyno INTEGER NOT NULL,"
    " code_k INTEGER NOT NULL, state INTEGER NOT NULL, extents INTEGER NOT NULL,"
    " length INTEGER NOT NULL, live INTEGER NOT NULL, created INTEGER NOT NULL,"
    " born INTEGER NOT NULL, died INTEGER NOT NULL);"
    "CREATE TABLE segindex(num INTEGER PRIMARY KEY, data BLOB NOT NULL);"
    "CREATE TABLE coding(set_id BLOB PRIMARY KEY NOT NULL, seg INTEGER NOT NULL,"
    " k INTEGER NOT NULL, m INTEGER NOT NULL, state INTEGER NOT NULL,"
    " ord INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE INDEX coding_seg ON coding(seg, ord);"
    "CREATE TABLE drive(key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL) WITHOUT ROWID;"
    /* What follows is local: never published. */
    "CREATE TABLE shard(set_id BLOB PRIMARY KEY NOT NULL, present INTEGER NOT NULL,"
    " suspect INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE local(key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE outbox(seq INTEGER PRIMARY KEY, data BLOB NOT NULL);"
    "CREATE TABLE sums(one INTEGER PRIMARY KEY CHECK(one = 1), bytes INTEGER NOT NULL,"
    " inodes INTEGER NOT NULL, seq INTEGER NOT NULL, blobs INTEGER NOT NULL,"
    " blob_bytes INTEGER NOT NULL);"
    "INSERT INTO sums VALUES(1, 0, 0, 0, 0, 0);";

const char *const sql_schema[META_SCHEMA_VERSION] = { schema_1 };
