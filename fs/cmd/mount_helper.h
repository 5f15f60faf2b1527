/* The program mount.skyflok: the helper protocol of mount(8). */
#ifndef FS_CMD_MOUNT_HELPER_H
#define FS_CMD_MOUNT_HELPER_H

int mount_helper_main(int argc, char **argv); /* returns an exit status of mount(8) */

#endif
