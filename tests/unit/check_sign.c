/* crypto/base64 and crypto/sign, against RFC 4648 and RFC 7515. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "crypto/base64.h"
#include "crypto/sign.h"
#include "fs/base/scope.h"

START_TEST(base64_rfc4648)
{
	static const char *const texts[] = { "", "f", "fo", "foo", "foob", "fooba", "foobar" };
	static const char *const coded[] = { "",         "Zg==",     "Zm8=",    "Zm9v",
					     "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy" };
	char out[64], raw[64];
	size_t n;

	for (int i = 0; i < 7; i++) {
		size_t len = base64_encode(out, texts[i], strlen(texts[i]));
		ck_assert_str_eq(out, coded[i]);
		ck_assert_uint_eq(len, strlen(out));
		ck_assert_uint_lt(len, BASE64_SIZE(strlen(texts[i])));
		ck_assert_int_eq(base64_decode(out, len, raw, &n), 0);
		ck_assert_uint_eq(n, strlen(texts[i]));
		ck_assert_mem_eq(raw, texts[i], n);
		len = base64url_encode(out, texts[i], strlen(texts[i]));
		ck_assert_ptr_null(strchr(out, '='));
		ck_assert_int_eq(base64url_decode(out, len, raw, &n), 0);
		ck_assert_mem_eq(raw, texts[i], n);
	}
	base64_encode(out, "\xfb\xff\xfe", 3);
	ck_assert_str_eq(out, "+//+");
	base64url_encode(out, "\xfb\xff\xfe", 3);
	ck_assert_str_eq(out, "-__-");
	static const char *const bad[] = { "Zg=",  "Zg",   "Z===",     "Zh==", "Zm9=", "Zm9v\n",
					   "Zm-v", "=Zg=", "Zg==Zg==", "Z",    "====" };
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		ck_assert_int_eq(base64_decode(bad[i], strlen(bad[i]), raw, &n), -EINVAL);
		ck_assert_uint_eq(n, 0);
	}
	ck_assert_int_eq(base64_decode("Zm\0v", 4, raw, &n), -EINVAL);
	ck_assert_int_eq(base64url_decode("Zg==", 4, raw, &n), -EINVAL);
	ck_assert_int_eq(base64url_decode("Zm9+", 4, raw, &n), -EINVAL);
}
END_TEST

/* RFC 7515 appendix A.2: its key, written as PKCS #8, and its signature. */
static const char rfc7515_key[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQCh+BYK4uPJtGXO\n"
    "jS1lYmM2K5J9vinh8CR3/BYlzJChNuOL2TSXxbbqY913EeZ8dCn5VrD7io8ImtxL\n"
    "aYk8wTM/U+3QGbh3hCUv7JFP5IV3aVlL6kKA0ywPVb9ilE8TA5a8bpvfbr3SvaNn\n"
    "juygxmj3AbONv/s4yDQs4v5tJ/reSlpIdJed1LnPmt7Ex1sFhSwsD174pcF1A5L5\n"
    "ROjtZMEQxrZHYJqkeDrrnGya11UxMFBji4NmXG9veoKjlnAqH2QbgtPr8jkiGUkf\n"
    "toaHLFcW9Qr4NY2ai50Xw0Byj3+H2JoY2PyrZ62EWQwuz3WTOTY8BwNNb2BvniHg\n"
    "VFbK5emhAgMBAAECggEAEq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyW\n"
    "PEAeP88vLNO97IjlA7/GQ5sLKMgvfTeXZx9SE+7YwVol2NXOoAJe46sui395IW/G\n"
    "O+pWJ1O0BkTGoVEn2bKVRUCgu+GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzj\n"
    "kn439X0M/V51gfpRLI9JYanrC4D4qAdGcopV/0ZHHzQlBjudU2QvXt4ehNYTCBr6\n"
    "XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl/x/jTj3ccPDVZFD9pIuhLhBOneufuBiB\n"
    "4cS98l2SR/RQyGWSeWjnczT0QU91p1DhOVRuOopznQKBgQDgHMQQ60imZV1URk0K\n"
    "pLttoLhyt3SmqdEf/kgHePDdtzEafpAu+cS191R2JiuoF2yzWXnwFDcqGigp5BNr\n"
    "0AHQfD8/Lk8l1Mk09jxxCfui5nYooNyac8YFjm3vItzVCVDnEd3BbVWG8qf6deqE\n"
    "lMGAg+C2V0L4oNXnP7LZcPAZRwKBgQC5A8R+CZW2MvRTLLHzwZkUXV866cff7tx6\n"
    "kqa0finGG0KgeqlaZPxgCZnFp7AeAcCMtiynVlJ7vMVgePsLq6XtON4tB5kP9jAP\n"
    "rq3rbAOal78eUH5OcED6eNuCV8ixEu1eWcPNCS/l1OW1EnXUEoEHKl54Xrrz2uNw\n"
    "kgMTP1FZ1wKBgAcCn1dwJKufzBWQxWQp1vsM5fggqPN1qGb5y0MAk3g7/Ls5bkUp\n"
    "5u9SN0Ai3Ya6hNnvWJMb7sXQX6U/zyO2M/hTip7tUeh7CXgwo59dkpN75gJLVds2\n"
    "9+DAncu3KXU4f2Fa+7bLNrur53k8KwPOq2bbuTG69QtV7Jr5MR0AHWKNAoGBAIf/\n"
    "evpitUf+4JYbLpvNXWcY052Mpz22aR84mY3nh3F2LF2mjMJDpTg7FmuyPcVw6EcG\n"
    "yoAe9fa65iNqCq+jdw6PVNGo2hxfjSiZ8IIzHdsPXI89//pMjZcQK9r+CCoRjaZj\n"
    "OYiIDktVWZzmevJuv6WywUqd57LE3Zar3dLSIkx1AoGAIYd7DHOhrWvxkwPQsRM2\n"
    "tOgrjbcrfvtQJipd+DlcxyVuuM9sQLdgjVk2oy26F0EmpScGLq2MowX7fhd/QJQ3\n"
    "ydy5cY7YIBi87w93IKLEdfnbJtoOPLUW0ITrJReOgo1cq9SbsxYawBgfp/gh6A56\n"
    "03k2+ZQwVK0JKSHuLFkuQ3U=\n"
    "-----END PRIVATE KEY-----\n";
static const char rfc7515_sig[] =
    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Q"
    "c_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTy"
    "WzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwu"
    "sC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5A"
    "XLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";

static const char rfc7515_input[] =
    "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt"
    "cGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

START_TEST(rs256_rfc7515)
{
	struct rsa_key *k;
	uint8_t sig[RSA_SIG_MAX];
	char text[BASE64_SIZE(RSA_SIG_MAX)];
	size_t n;

	ck_assert_int_eq(rsa_key_load(rfc7515_key, sizeof(rfc7515_key) - 1, &k), 0);
	ck_assert_int_eq(rsa_sign_sha256(k, rfc7515_input, sizeof(rfc7515_input) - 1, sig, &n), 0);
	ck_assert_uint_eq(n, 256);
	base64url_encode(text, sig, n);
	ck_assert_str_eq(text, rfc7515_sig);
	rsa_key_free(k);
	rsa_key_free(NULL);
	ck_assert_int_eq(rsa_key_load("nonsense", 8, &k), -EINVAL);
	ck_assert_ptr_null(k);
	ck_assert_int_eq(rsa_key_load(rfc7515_key, 500, &k), -EINVAL);
	ck_assert_int_eq(rsa_key_load("", 0, &k), -EINVAL);
	/* An encrypted key is refused, without asking at a terminal. */
	static const char locked[] = "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
				     "MIGjMF8GCSqGSIb3DQEFDTBSMDEGCSqGSIb3DQEFDDAk\n"
				     "-----END ENCRYPTED PRIVATE KEY-----\n";
	ck_assert_int_eq(rsa_key_load(locked, sizeof(locked) - 1, &k), -EINVAL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("sign");
	TCase *t = tcase_create("all");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, base64_rfc4648);
	tcase_add_test(t, rs256_rfc7515);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
