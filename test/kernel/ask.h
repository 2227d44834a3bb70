/* SPDX-License-Identifier: Apache-2.0 */
int asked(char **a);
