/* page_damage.c: by the calls that a tier has for that, or in its memory. */
#include "tests/unit/page_damage.h"

#include "emu/tier/pinned_tier.h"

void page_damage(kvt_tier *tier, const kvt_extent *page, bool drop)
{
	if (drop) {
		uint64_t bytes = tier->ops->discard(tier, 0, page);
		g_assert_cmpuint(bytes, ==, page->page_bytes);
		return;
	}
	uint8_t *content = kvt_pinned_tier_page(tier, 0, page);
	g_assert_nonnull(content);
	content[999] ^= 0x01;
}
