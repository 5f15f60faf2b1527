/* The write-ahead log on disk: group sync, checkpoints, the ballast file.
 *
 * The sync uses a descriptor of its own. Closing any descriptor of a file drops all POSIX locks
 * that the process has on it; SQLite's are on the main file and on -shm, never on -wal, so opening
 * and closing this one is safe (and nothing of ours opens the other two past meta_open). The log is
 * neither deleted nor recreated while we have the database open (SQLITE_FCNTL_PERSIST_WAL,
 * SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE); should somebody else delete it, the next sync says so.
 *
 * SQLite itself syncs the log before it copies from it, on the checkpointer's connection
 * (synchronous=NORMAL), and its header when it begins anew: rarely, under the lock (I7's
 * exception). */
#include "fs/meta/impl.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include "fs/base/clock.h"
#include "fs/base/failpoint.h"
#include "fs/base/file.h"
#include "fs/base/log.h"
#include "fs/base/scope.h"

#define BALLAST_BYTES (1 << 20)
#define IDLE_NS       (5 * NS_PER_S)
#define ZERO_AHEAD    (1u << 20)
#define ZERO_LOW      (256u << 10)
#define WAL_HEADER    32 /* sqlite.org/fileformat2.html, section 4.1 */
#define WAL_FRAME     (24 + 4096)

/* ---- Ballast: space that belongs to us when the disk is full ---- */

void ballast_make(struct meta *m)
{
	struct statvfs v;
	int fd, rc;

	/* Only when that leaves room for what the space is needed for. */
	if (statvfs(m->path, &v) || v.f_bavail * v.f_frsize < 4 * (uint64_t)BALLAST_BYTES)
		return;
	fd = open(m->ballast, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	rc = posix_fallocate(fd, 0, BALLAST_BYTES);
	close(fd);
	if (rc)
		unlink(m->ballast);
	else
		atomic_store(&m->ballast_gone, 0);
}

void wal_disk_full(struct meta *m)
{
	if (!m->full)
		log_warn("The disk that holds %s is full. Make room there: nothing more is kept "
			 "until then",
			 m->path);
	m->full = 1;
	if (!atomic_exchange(&m->ballast_gone, 1))
		unlink(m->ballast);
}

/* ---- Sync ---- */

static int sync_wal(struct meta *m)
{
	struct stat st;
	int rc = failpoint("meta.wal.sync");

	if (rc)
		return rc;
	if (fdatasync(m->wal_fd) || fstat(m->wal_fd, &st))
		return -errno;
	if (!st.st_nlink) {
		log_error("%s-wal was deleted while in use", m->path);
		return -EIO;
	}
	return 0;
}

int meta_wal_sync(struct meta *m)
{
	char why[128];
	int rc;

	if (m->read_only)
		return -EROFS;
	if (atomic_load(&m->failed))
		return -EIO;
	rc = sync_wal(m);
	if (rc) {
		/* Never again on this file: the kernel forgets what it could not write, and the
		 * next call would say 0. */
		snprintf(why, sizeof(why), "the database's log could not be synced (%s)",
			 strerror(-rc));
		tx_fail(m, why);
		return -EIO;
	}
	if (atomic_load(&m->ballast_gone))
		ballast_make(m);
	return 0;
}

/* ---- Checkpoints ---- */

/* After each COMMIT, lock held: pages are frames in the log. */
static int on_commit(void *arg, sqlite3 *db, const char *name, int pages)
{
	struct meta *m = arg;

	if (pages < m->wal_pages)
		m->tried_pages = 0; /* the log began anew */
	m->wal_pages = pages;
	return SQLITE_OK;
}

/* Syncing frames that go over written blocks needs no commit of the filesystem's journal (measured:
 * half the time), so the log grows by zeros, ahead. Lock held: nobody else writes to the log, and
 * what lies behind its end is no frame to SQLite, as the rest of an older log is none. Without room
 * it grows as SQLite writes. */
static void zero_ahead(struct meta *m)
{
	static const uint8_t zeros[ZERO_AHEAD];
	uint64_t used = WAL_HEADER + (uint64_t)m->wal_pages * WAL_FRAME;
	struct stat st;

	if (m->full || used + ZERO_LOW <= m->wal_size || fstat(m->wal_fd, &st))
		return;
	m->wal_size = (uint64_t)st.st_size;
	if (used + ZERO_LOW > m->wal_size &&
	    !file_pwrite(m->wal_fd, zeros, sizeof(zeros), m->wal_size))
		m->wal_size += sizeof(zeros);
}

void wal_committed(struct meta *m)
{
	m->last_commit_ns = clock_mono_ns();
	if (m->full)
		log_info("%s: there was room for all changes again", m->path);
	m->full = 0;
	zero_ahead(m);
	if (m->wal_pages < m->park_pages)
		m->park_at = m->park_pages;
	if (m->wal_pages >= m->park_at || m->wal_pages - m->tried_pages >= m->step_pages)
		pthread_cond_signal(&m->work);
}

static int checkpoint(struct meta *m, int *pages, int *copied)
{
	int err = failpoint("meta.checkpoint");

	if (!err)
		err = db_errno(sqlite3_wal_checkpoint_v2(m->checkpointer, NULL,
							 SQLITE_CHECKPOINT_PASSIVE, pages, copied));
	if (!err)
		err = failpoint("meta.checkpointed");

	if (err == -EIO || err == -EBADMSG)
		tx_fail(m, "a checkpoint of the database failed");
	return err;
}

static int checkpoint_due(struct meta *m, int64_t *deadline)
{
	int fresh = m->wal_pages - m->tried_pages;

	*deadline = 0;
	if (atomic_load(&m->failed) || fresh <= 0)
		return m->parked;
	*deadline = m->last_commit_ns + IDLE_NS;
	return m->parked || fresh >= m->step_pages || clock_mono_ns() >= *deadline;
}

static void checkpoint_once(struct meta *m)
{
	int pages = -1, copied = -1, rc = 0;

	/* Counts as done whatever comes of it: what a reader of an old state or a full disk kept
	 * back is tried again with the next step of pages, not at once. */
	m->tried_pages = m->wal_pages;
	pthread_mutex_unlock(&m->lock);
	if (!atomic_load(&m->failed))
		rc = checkpoint(m, &pages, &copied);
	pthread_mutex_lock(&m->lock);
	if (!m->parked)
		return;
	/* Emptied: the next transaction begins the log anew. Else somebody reads an old state (a
	 * snapshot): stopping everybody again after each commit would not help. */
	m->park_at = !rc && copied == pages ? m->park_pages : m->wal_pages + m->step_pages;
	m->parked = 0;
	pthread_cond_broadcast(&m->unparked);
}

static void *checkpoint_thread(void *arg)
{
	struct meta *m = arg;
	int64_t deadline;

	pthread_mutex_lock(&m->lock);
	while (!m->stop) {
		if (checkpoint_due(m, &deadline))
			checkpoint_once(m);
		else
			cond_wait_until(&m->work, &m->lock, deadline);
	}
	m->parked = 0;
	pthread_cond_broadcast(&m->unparked);
	pthread_mutex_unlock(&m->lock);
	return NULL;
}

void meta_lock(struct meta *m)
{
	pthread_mutex_lock(&m->lock);
	while (m->parked)
		pthread_cond_wait(&m->unparked, &m->lock);
}

void meta_unlock(struct meta *m)
{
	if (m->read_only)
		tx_end_read(m);
	if (m->thread_runs && m->wal_pages >= m->park_at && !m->dirty && !m->parked &&
	    !atomic_load(&m->failed)) {
		/* A transaction, also one that only read, keeps the log from beginning anew. */
		tx_end_read(m);
		m->parked = 1;
		pthread_cond_signal(&m->work);
	}
	pthread_mutex_unlock(&m->lock);
}

/* ---- Start and stop ---- */

int wal_run(struct meta *m, struct err *e)
{
	sigset_t all, old;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	rc = pthread_create(&m->thread, NULL, checkpoint_thread, m);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	m->thread_runs = !rc;
	if (!rc)
		pthread_setname_np(m->thread, "meta-wal");
	return rc ? err_set(e, -rc, "Cannot start a thread: %s", strerror(rc)) : 0;
}

/* The last mount may have ended because this file could not be synced: then it holds, in memory
 * only, commits that were never acknowledged, and ours would be appended to them. After a clean end
 * it is empty. */
static int resync(struct meta *m)
{
	struct stat st;

	if (fstat(m->wal_fd, &st))
		return -errno;
	return st.st_size ? file_resync(m->wal_fd, (uint64_t)st.st_size) : 0;
}

int wal_start(struct meta *m, struct err *e)
{
	AUTO_FREE char *wal = str_printf("%s-wal", m->path);
	int rc;

	if (!wal)
		return err_set(e, -ENOMEM, "Out of memory");
	m->wal_fd = open(wal, O_RDWR | O_CLOEXEC);
	if (m->wal_fd < 0)
		return err_set(e, -errno, "Cannot open %s: %s", wal, strerror(errno));
	rc = resync(m);
	if (rc)
		return err_set(e, rc, "Cannot make %s durable: %s", wal, strerror(-rc));
	rc = db_open(m->path, DB_CHECKPOINTER, &m->checkpointer, e);
	if (rc)
		return rc;
	m->park_pages = m->park_at = WAL_PARK_PAGES;
	m->step_pages = WAL_STEP_PAGES;
	sqlite3_wal_hook(m->db, on_commit, m);
	return 0;
}

void wal_stop(struct meta *m)
{
	if (m->thread_runs) {
		pthread_mutex_lock(&m->lock);
		m->stop = 1;
		pthread_cond_signal(&m->work);
		pthread_mutex_unlock(&m->lock);
		pthread_join(m->thread, NULL);
		m->thread_runs = 0;
	}
	db_close(m->checkpointer);
	m->checkpointer = NULL;
}

int wal_checkpoint_all(struct meta *m)
{
	int rc = failpoint("meta.truncate");

	if (rc)
		return rc;
	rc = sqlite3_wal_checkpoint_v2(m->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);

	/* A reader of another process keeps it as it is: nothing lost, the next open goes on. */
	return db_errno(rc) == -EBUSY ? 0 : db_errno(rc);
}
