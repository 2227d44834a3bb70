// SPDX-License-Identifier: Apache-2.0
// Other names for an object: what is read, written and run by them must be the same object to the policy.
#include "evade.h"
#include <linux/openat2.h>
#include <pthread.h>

#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#endif
#ifndef MOVE_MOUNT_F_EMPTY_PATH
#define MOVE_MOUNT_F_EMPTY_PATH 4
#endif

static int set(struct object *o, const char *path)
{
	/* path may be made from o->path */
	char copy[sizeof o->path];

	snprintf(copy, sizeof copy, "%s", path);
	memcpy(o->path, copy, sizeof copy);
	return 0;
}

static int below(struct object *o, const char *folder)
{
	return set(o, format("%s/%s", folder, name_of(o->path)));
}

static const char *made_folder(const char *name)
{
	const char *path = in_open(name);

	mkdir(path, 0777);
	return path;
}

static int itself(struct object *o) { return 0; }

static int symbolic_link(struct object *o)
{
	TRY(symlink(o->path, in_open("link")));
	return set(o, in_open("link"));
}

static int link_to_folder(struct object *o)
{
	TRY(symlink(folder_of(o->path), in_open("link")));
	return below(o, in_open("link"));
}

static int link_chain(struct object *o)
{
	TRY(symlink(o->path, in_open("link0")));
	for (int i = 1; i < 30; i++)
		TRY(symlink(format("link%d", i - 1), in_open(format("link%d", i))));
	return set(o, in_open("link29"));
}

static int dots(struct object *o)
{
	return set(o, format("%s/../%s/./%s", folder_of(o->path), name_of(folder_of(o->path)), name_of(o->path)));
}

static int slashes(struct object *o)
{
	return set(o, format("//%s///%s", folder_of(o->path), name_of(o->path)));
}

static int path_max(struct object *o)
{
	char path[PATH_MAX] = "";

	while (strlen(path) + strlen(o->path) + 3 < PATH_MAX)
		strcat(path, "/.");
	strcat(path, o->path);
	return set(o, path);
}

static int working_directory(struct object *o)
{
	TRY(chdir(folder_of(o->path)));
	return set(o, name_of(o->path));
}

static int directory_descriptor(struct object *o)
{
	o->at = TRY(open(folder_of(o->path), O_RDONLY | O_DIRECTORY));
	return set(o, name_of(o->path));
}

static int path_descriptor(struct object *o)
{
	o->at = TRY(open(folder_of(o->path), O_PATH));
	return set(o, name_of(o->path));
}

static int descriptor_link(struct object *o)
{
	return set(o, format("/proc/self/fd/%d", TRY(open(o->path, O_PATH))));
}

static int dev_fd(struct object *o)
{
	return set(o, format("/dev/fd/%d", TRY(open(o->path, O_PATH))));
}

static int thread_fd(struct object *o)
{
	return set(o, format("/proc/thread-self/fd/%d", TRY(open(o->path, O_PATH))));
}

static int child_fd(struct object *o)
{
	int fd = TRY(open(o->path, O_PATH));
	pid_t pid = TRY(fork());

	if (!pid) {
		pause();
		_exit(0);
	}
	close(fd);
	return set(o, format("/proc/%d/fd/%d", pid, fd));
}

static int proc_root(struct object *o) { return set(o, format("/proc/self/root%s", o->path)); }
static int proc_task_root(struct object *o) { return set(o, format("/proc/%d/task/%d/root%s", getpid(), getpid(), o->path)); }
static int parent_root(struct object *o) { return set(o, format("/proc/%d/root%s", getppid(), o->path)); }
static int first_root(struct object *o) { return set(o, format("/proc/1/root%s", o->path)); }

static int proc_cwd(struct object *o)
{
	TRY(chdir(folder_of(o->path)));
	return set(o, format("/proc/self/cwd/%s", name_of(o->path)));
}

static int second_proc(struct object *o)
{
	TRY(new_mounts(0));
	TRY(mount("proc", made_folder("proc"), "proc", 0, NULL));
	return set(o, format("%s/self/root%s", in_open("proc"), o->path));
}

static int hard_link(struct object *o)
{
	TRY(link(o->path, in_open("link")));
	return set(o, in_open("link"));
}

static int hard_link_by_descriptor(struct object *o)
{
	int fd = TRY(open(o->path, O_PATH));

	TRY(linkat(AT_FDCWD, format("/proc/self/fd/%d", fd), AT_FDCWD, in_open("link"), AT_SYMLINK_FOLLOW));
	return set(o, in_open("link"));
}

static int hard_link_empty_path(struct object *o)
{
	int fd = TRY(open(o->path, O_PATH));

	TRY(linkat(fd, "", AT_FDCWD, in_open("link"), AT_EMPTY_PATH));
	return set(o, in_open("link"));
}

static int hard_link_uring(struct object *o)
{
	struct io_uring_sqe sqe = { .opcode = IORING_OP_LINKAT, .fd = AT_FDCWD, .addr = (long)o->path, .len = AT_FDCWD };
	const char *to = in_open("link");

	sqe.addr2 = (long)to;
	TRY(uring(0, 0, sqe));
	return set(o, to);
}

/* Setup made it, before there was a policy. */
static int earlier_hard_link(struct object *o) { return set(o, in_open("earlier")); }

static int renamed(struct object *o)
{
	TRY(rename(o->path, in_open("renamed")));
	return set(o, in_open("renamed"));
}

static int renamed_uring(struct object *o)
{
	struct io_uring_sqe sqe = { .opcode = IORING_OP_RENAMEAT, .fd = AT_FDCWD, .addr = (long)o->path, .len = AT_FDCWD };
	const char *to = in_open("renamed");

	sqe.addr2 = (long)to;
	TRY(uring(0, 0, sqe));
	return set(o, to);
}

static int renamed_parent(struct object *o)
{
	TRY(rename(folder_of(o->path), in_open("renamed")));
	return below(o, in_open("renamed"));
}

static int renamed_grandparent(struct object *o)
{
	const char *inner = name_of(folder_of(o->path));

	TRY(rename(folder_of(folder_of(o->path)), in_open("renamed")));
	return below(o, format("%s/%s", in_open("renamed"), inner));
}

static int exchanged(struct object *o)
{
	TRY(put_file(in_open("other"), "other", 0777));
	TRY(syscall(SYS_renameat2, AT_FDCWD, o->path, AT_FDCWD, in_open("other"), 2));
	return set(o, in_open("other"));
}

static int exchanged_parent(struct object *o)
{
	TRY(syscall(SYS_renameat2, AT_FDCWD, folder_of(o->path), AT_FDCWD, made_folder("other"), 2));
	return below(o, in_open("other"));
}

static int bind_folder(struct object *o)
{
	TRY(new_mounts(0));
	TRY(mount(folder_of(o->path), made_folder("bind"), NULL, MS_BIND, NULL));
	return below(o, in_open("bind"));
}

/* Not in a namespace of its own, but where everybody else is. */
static int bind_here(struct object *o)
{
	TRY(mount(folder_of(o->path), made_folder("bind"), NULL, MS_BIND, NULL));
	return below(o, in_open("bind"));
}

static int bind_file(struct object *o)
{
	TRY(new_mounts(0));
	TRY(put_file(in_open("bind"), "", 0777));
	TRY(mount(o->path, in_open("bind"), NULL, MS_BIND, NULL));
	return set(o, in_open("bind"));
}

static int bind_root(struct object *o)
{
	TRY(new_mounts(0));
	TRY(mount("/", made_folder("bind"), NULL, MS_BIND | MS_REC, NULL));
	return set(o, format("%s%s", in_open("bind"), o->path));
}

static int bind_of_bind(struct object *o)
{
	TRY(bind_folder(o));
	TRY(mount(folder_of(o->path), made_folder("again"), NULL, MS_BIND, NULL));
	TRY(umount2(in_open("bind"), MNT_DETACH));
	return below(o, in_open("again"));
}

static int bind_in_user_namespace(struct object *o)
{
	TRY(new_mounts(CLONE_NEWUSER));
	TRY(mount(folder_of(o->path), made_folder("bind"), NULL, MS_BIND | MS_REC, NULL));
	return below(o, in_open("bind"));
}

static int moved_mount(struct object *o)
{
	TRY(bind_folder(o));
	TRY(mount(in_open("bind"), made_folder("moved"), NULL, MS_MOVE, NULL));
	return below(o, in_open("moved"));
}

static int lazily_unmounted(struct object *o)
{
	TRY(bind_folder(o));
	o->at = TRY(open(in_open("bind"), O_PATH));
	TRY(umount2(in_open("bind"), MNT_DETACH));
	return set(o, name_of(o->path));
}

static int detached_tree(struct object *o)
{
	o->at = TRY(syscall(SYS_open_tree, AT_FDCWD, folder_of(o->path), OPEN_TREE_CLONE));
	return set(o, name_of(o->path));
}

static int detached_tree_of_user(struct object *o)
{
	TRY(new_mounts(CLONE_NEWUSER));
	o->at = TRY(syscall(SYS_open_tree, AT_FDCWD, folder_of(o->path), OPEN_TREE_CLONE | AT_RECURSIVE));
	return set(o, name_of(o->path));
}

static int attached_tree(struct object *o)
{
	int tree;

	TRY(new_mounts(0));
	tree = TRY(syscall(SYS_open_tree, AT_FDCWD, folder_of(o->path), OPEN_TREE_CLONE));
	TRY(syscall(SYS_move_mount, tree, "", AT_FDCWD, made_folder("tree"), MOVE_MOUNT_F_EMPTY_PATH));
	return below(o, in_open("tree"));
}

/* The root of all, moved onto an open folder's place: what lay there comes to light below it. */
static int change_root(struct object *o)
{
	const char *folder = folder_of(folder_of(o->path)), *rest = format("/%s/%s", name_of(folder_of(o->path)), name_of(o->path));

	TRY(chroot(folder));
	TRY(chdir("/"));
	return set(o, rest);
}

static int change_root_of_user(struct object *o)
{
	TRY(new_mounts(CLONE_NEWUSER));
	return change_root(o);
}

static int pivot(struct object *o)
{
	const char *rest = format("%s", name_of(o->path));

	TRY(bind_folder(o));
	TRY(chdir(in_open("bind")));
	TRY(syscall(SYS_pivot_root, ".", "."));
	TRY(umount2(".", MNT_DETACH));
	TRY(chdir("/"));
	return set(o, format("/%s", rest));
}

static int under_tmpfs(struct object *o)
{
	int folder = TRY(open(folder_of(o->path), O_PATH));

	TRY(new_mounts(0));
	folder = TRY(open(folder_of(o->path), O_PATH));
	TRY(mount("tmpfs", here.root, "tmpfs", 0, NULL));
	o->at = folder;
	return set(o, name_of(o->path));
}

/* An overlay of its own over lower: fs/upper, fs/merged. The object is merged/rest. */
int overlay_of(struct object *o, int flags, const char *lower, const char *rest)
{
	char options[3 * PATH_MAX], path[PATH_MAX];

	TRY(new_mounts(flags));
	snprintf(path, sizeof path, "%s", made_folder("fs"));
	TRY(mount("tmpfs", path, "tmpfs", 0, NULL));
	mkdir(format("%s/upper", path), 0777);
	mkdir(format("%s/work", path), 0777);
	mkdir(format("%s/merged", path), 0777);
	snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s/upper,workdir=%s/work", lower, path, path);
	TRY(mount("overlay", format("%s/merged", path), "overlay", 0, options));
	return set(o, format("%s/merged/%s", path, rest));
}

static int overlay_lower(struct object *o)
{
	return overlay_of(o, 0, folder_of(o->path), name_of(o->path));
}

static int overlay_lower_of_user(struct object *o)
{
	return overlay_of(o, CLONE_NEWUSER, folder_of(o->path), name_of(o->path));
}

static int overlay_of_root(struct object *o)
{
	return overlay_of(o, 0, here.root, o->path + strlen(here.root) + 1);
}

static int overlay_two_layers(struct object *o)
{
	return overlay_of(o, 0, format("%s:%s", made_folder("empty"), folder_of(o->path)), name_of(o->path));
}

static int overlay_upper(struct object *o)
{
	char upper[PATH_MAX];

	snprintf(upper, sizeof upper, "%s", folder_of(o->path));
	TRY(new_mounts(0));
	mkdir(in_open("empty"), 0777);
	mkdir(in_open("merged"), 0777);
	mkdir(in_open("work"), 0777);
	TRY(mount("overlay", in_open("merged"), "overlay", 0,
		  format("lowerdir=%s,upperdir=%s,workdir=%s", in_open("empty"), upper, in_open("work"))));
	return below(o, in_open("merged"));
}

/* A layer that says that a file of another name holds its data. */
static int overlay_redirected(struct object *o)
{
	char fs[PATH_MAX];
	const char *upper;
	struct stat is;

	TRY(new_mounts(0));
	TRY(stat(o->path, &is));
	snprintf(fs, sizeof fs, "%s", made_folder("fs"));
	TRY(mount("tmpfs", fs, "tmpfs", 0, NULL));
	mkdir(format("%s/layer", fs), 0777);
	mkdir(format("%s/merged", fs), 0777);
	upper = format("%s/layer/other", fs);
	TRY(put_file(upper, "", 0777));
	TRY(truncate(upper, is.st_size));
	TRY(syscall(SYS_setxattr, upper, "trusted.overlay.metacopy", "", 0, 0));
	TRY(syscall(SYS_setxattr, upper, "trusted.overlay.redirect", o->path + strlen(here.root),
		    strlen(o->path) - strlen(here.root), 0));
	TRY(mount("overlay", format("%s/merged", fs), "overlay", 0,
		  format("lowerdir=%s/layer:%s,metacopy=on,redirect_dir=follow", fs, here.root)));
	return set(o, format("%s/merged/other", fs));
}

/* An overlay that hangs nowhere. */
static int overlay_detached(struct object *o)
{
	int fs;

	TRY(new_mounts(0));
	fs = TRY(syscall(SYS_fsopen, "overlay", 0));
	TRY(syscall(SYS_fsconfig, fs, 1, "lowerdir", format("%s:%s", folder_of(o->path), made_folder("empty")), 0));
	TRY(syscall(SYS_fsconfig, fs, 6, NULL, NULL, 0));
	o->at = TRY(syscall(SYS_fsmount, fs, 0, 0));
	return set(o, name_of(o->path));
}

/* The folders that the container's own root is made of, as the node's first process sees them. */
static int layer_of_the_root(struct object *o)
{
	char line[16384], *at;
	FILE *mounts = fopen("/proc/self/mounts", "re");

	while (mounts && fgets(line, sizeof line, mounts)) {
		if (strncmp(line, "overlay / ", 10))
			continue;
		at = strstr(line, "upperdir=");
		if (!at)
			continue;
		at += strlen("upperdir=");
		at[strcspn(at, ",")] = 0;
		fclose(mounts);
		return set(o, format("/proc/1/root%s%s", at, o->path));
	}
	return failed_as("no overlay", ENOENT);
}

struct handle { struct file_handle head; char bytes[128]; };

static int by_handle(struct object *o)
{
	struct handle h = { .head.handle_bytes = sizeof h.bytes };
	int mount, root = TRY(open(folder_of(o->path), O_RDONLY | O_DIRECTORY));
	int fd;

	TRY(name_to_handle_at(AT_FDCWD, o->path, &h.head, &mount, 0));
	fd = TRY(open_by_handle_at(root, &h.head, O_PATH));
	return set(o, format("/proc/self/fd/%d", fd));
}

static int folder_by_handle(struct object *o)
{
	struct handle h = { .head.handle_bytes = sizeof h.bytes };
	int mount, root = TRY(open("/", O_RDONLY | O_DIRECTORY));

	TRY(name_to_handle_at(AT_FDCWD, folder_of(o->path), &h.head, &mount, 0));
	root = TRY(open(folder_of(o->path), O_RDONLY | O_DIRECTORY));
	o->at = TRY(open_by_handle_at(root, &h.head, O_PATH | O_DIRECTORY));
	return set(o, name_of(o->path));
}

/* A mount of the same tree in which other owners are shown. */
static int idmapped(struct object *o)
{
	struct { uint64_t set, clear, propagation, userns; } attributes = { .set = 0x00100000 /* MOUNT_ATTR_IDMAP */ };
	int tree, ready[2], users;
	pid_t pid;
	char c;

	TRY(pipe(ready));
	pid = TRY(fork());
	if (!pid) {
		if (unshare(CLONE_NEWUSER))
			_exit(1);
		close(ready[1]);
		pause();
	}
	close(ready[1]);
	usleep(100000);
	(void)c;
	put_text(format("/proc/%d/uid_map", pid), "0 0 65536");
	put_text(format("/proc/%d/gid_map", pid), "0 0 65536");
	users = TRY(open(format("/proc/%d/ns/user", pid), O_RDONLY));
	attributes.userns = users;
	tree = TRY(syscall(SYS_open_tree, AT_FDCWD, folder_of(o->path), OPEN_TREE_CLONE));
	TRY(syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attributes, sizeof attributes));
	o->at = tree;
	return set(o, name_of(o->path));
}

static int in_root(struct object *o)
{
	struct open_how how = { .flags = O_PATH | O_DIRECTORY, .resolve = RESOLVE_IN_ROOT };
	int root = TRY(open("/", O_PATH));

	o->at = TRY(syscall(SYS_openat2, root, format("../../%s", folder_of(o->path)), &how, sizeof how));
	return set(o, name_of(o->path));
}

/* Many directories down and up again, further than a path can say. */
static int far_around(struct object *o)
{
	char component[256], up[3 * 17 + 1] = "";

	memset(component, 'n', 255);
	component[255] = 0;
	TRY(chdir(here.open));
	for (int i = 0; i < 17; i++) {
		TRY(mkdir(component, 0777));
		TRY(chdir(component));
		strcat(up, "../");
	}
	return set(o, format("%s../%s", up, o->path + strlen(folder_of(here.open)) + 1));
}

/* A symbolic link, over and over to something that may be had and to what may not. */
static volatile int stop_racing;
static char race_target[PATH_MAX];

static void *race_links(void *unused)
{
	char link[PATH_MAX], other[PATH_MAX];

	snprintf(link, sizeof link, "%s/race", here.open);
	snprintf(other, sizeof other, "%s/race.new", here.open);
	while (!stop_racing) {
		if (!symlink(race_target, other))
			rename(other, link);
		if (!symlink(in_open("harmless"), other))
			rename(other, link);
	}
	return NULL;
}

static int link_race(struct object *o)
{
	pthread_t thread;

	snprintf(race_target, sizeof race_target, "%s", o->path);
	TRY(copy_file("/proc/self/exe", in_open("harmless")));
	TRY(symlink(race_target, in_open("race")));
	TRY(pthread_create(&thread, NULL, race_links, NULL));
	return set(o, in_open("race"));
}

/* A folder on the way, here and there, while the object is reached through it. The move may be refused: then what
 * is tried is the object's own name. */
static void *race_folders(void *unused)
{
	char from[PATH_MAX], to[PATH_MAX];

	snprintf(from, sizeof from, "%s", folder_of(race_target));
	snprintf(to, sizeof to, "%s/elsewhere", here.open);
	while (!stop_racing)
		if (!rename(from, to))
			rename(to, from);
	return NULL;
}

static int parent_race(struct object *o)
{
	pthread_t thread;

	snprintf(race_target, sizeof race_target, "%s", o->path);
	o->at = TRY(open(folder_of(o->path), O_PATH));
	TRY(pthread_create(&thread, NULL, race_folders, NULL));
	return set(o, name_of(o->path));
}

/* Unrelated renames, so that no walk ever sees the tree at rest. */
static void *race_elsewhere(void *unused)
{
	char from[PATH_MAX], to[PATH_MAX];

	snprintf(from, sizeof from, "%s/a", here.open);
	snprintf(to, sizeof to, "%s/b", here.open);
	mkdir(from, 0777);
	while (!stop_racing)
		if (!rename(from, to))
			rename(to, from);
	return NULL;
}

static int rename_storm(struct object *o)
{
	pthread_t thread;

	TRY(pthread_create(&thread, NULL, race_elsewhere, NULL));
	TRY(pthread_create(&thread, NULL, race_elsewhere, NULL));
	return 0;
}

static int upper_case(struct object *o)
{
	char name[PATH_MAX];

	snprintf(name, sizeof name, "%s", name_of(o->path));
	for (char *c = name; *c; c++)
		if (*c >= 'a' && *c <= 'z')
			*c -= 32;
	return set(o, format("%s/%s", folder_of(o->path), name));
}

/* The same letters to a person, or to a decoder that does not mind. */
static int overlong_utf8(struct object *o)
{
	return set(o, format("%s\xc0\xaf%s", folder_of(o->path), name_of(o->path)));
}

static int fullwidth(struct object *o)
{
	return set(o, format("%s/\xef\xbd\x86%s", folder_of(o->path), name_of(o->path) + 1));
}

static int trailing_dot(struct object *o) { return set(o, format("%s/.", o->path)); }

/* File descriptors of a namespace of mounts that nobody is in any more. */
static int mount_namespace_left(struct object *o)
{
	int old = TRY(open("/proc/self/ns/mnt", O_RDONLY));

	TRY(bind_folder(o));
	o->at = TRY(open(in_open("bind"), O_PATH));
	TRY(setns(old, CLONE_NEWNS));
	return set(o, name_of(o->path));
}

static int first_mount_namespace(struct object *o)
{
	int fd = TRY(open("/proc/1/ns/mnt", O_RDONLY)), root = TRY(open("/", O_PATH));

	TRY(unshare(CLONE_FS));
	TRY(setns(fd, CLONE_NEWNS));
	TRY(fchdir(root));
	o->at = root;
	return set(o, o->path + 1);
}

const struct alias aliases[] = {
	{ "its own name", itself },
	{ "symbolic link", symbolic_link },
	{ "symbolic link to its folder", link_to_folder },
	{ "chain of thirty symbolic links", link_chain },
	{ "dots", dots },
	{ "more slashes", slashes },
	{ "path of PATH_MAX bytes", path_max },
	{ "working directory", working_directory },
	{ "directory descriptor", directory_descriptor },
	{ "O_PATH descriptor of its folder", path_descriptor },
	{ "O_PATH descriptor, /proc/self/fd", descriptor_link },
	{ "O_PATH descriptor, /dev/fd", dev_fd },
	{ "O_PATH descriptor, /proc/thread-self", thread_fd },
	{ "O_PATH descriptor of a child", child_fd },
	{ "/proc/self/root", proc_root },
	{ "/proc/self/task/root", proc_task_root },
	{ "/proc/PARENT/root", parent_root },
	{ "/proc/1/root", first_root },
	{ "/proc/self/cwd", proc_cwd },
	{ "second proc", second_proc },
	{ "hard link", hard_link },
	{ "hard link by descriptor", hard_link_by_descriptor },
	{ "hard link by empty path", hard_link_empty_path },
	{ "hard link by io_uring", hard_link_uring },
	{ "hard link made earlier", earlier_hard_link },
	{ "rename", renamed },
	{ "rename by io_uring", renamed_uring },
	{ "rename of its folder", renamed_parent },
	{ "rename of the folder above", renamed_grandparent },
	{ "exchange", exchanged },
	{ "exchange of its folder", exchanged_parent },
	{ "bind mount of its folder", bind_folder },
	{ "bind mount for everybody", bind_here },
	{ "bind mount of the file", bind_file },
	{ "bind mount of the root", bind_root },
	{ "bind mount of a bind mount", bind_of_bind },
	{ "bind mount in a user namespace", bind_in_user_namespace },
	{ "moved mount", moved_mount },
	{ "lazily unmounted mount", lazily_unmounted },
	{ "detached mount", detached_tree },
	{ "detached mount in a user namespace", detached_tree_of_user },
	{ "detached mount, attached", attached_tree },
	{ "idmapped mount", idmapped },
	{ "chroot", change_root },
	{ "chroot in a user namespace", change_root_of_user },
	{ "pivot_root", pivot },
	{ "below a tmpfs", under_tmpfs },
	{ "overlay's lower layer", overlay_lower },
	{ "overlay's lower layer in a user namespace", overlay_lower_of_user },
	{ "overlay of the folders above", overlay_of_root },
	{ "overlay's second layer", overlay_two_layers },
	{ "overlay's upper layer", overlay_upper },
	{ "overlay's redirect", overlay_redirected },
	{ "overlay that is not attached", overlay_detached },
	{ "layer of the container's root", layer_of_the_root },
	{ "file handle", by_handle },
	{ "file handle of its folder", folder_by_handle },
	{ "openat2 RESOLVE_IN_ROOT", in_root },
	{ "far around", far_around },
	{ "race of a symbolic link", link_race, true },
	{ "race of its folder's name", parent_race, true },
	{ "storm of renames", rename_storm, true },
	{ "mount namespace that was left", mount_namespace_left },
	{ "mount namespace of process 1", first_mount_namespace },
	{ "upper case", upper_case },
	{ "overlong UTF-8", overlong_utf8 },
	{ "full-width letter", fullwidth },
	{ "trailing dot", trailing_dot },
	{ NULL },
};
